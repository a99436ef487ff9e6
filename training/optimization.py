"""Low-precision training with full-precision master weights, and their moving average."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

EMA_EVERY = 4  # steps between two updates of the moving average; its decay is taken to this power


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the hardware computes in it; elsewhere it is emulated, several times slower."""
    if device.type == "cpu":
        has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        return torch.bfloat16 if has_bf16 else torch.float32
    return torch.bfloat16


class MasterWeights:
    """fp32 copies of a model's trainable parameters, the optimiser over them, and their EMA.

    The model itself may be bf16: gradients are copied up, the step is taken in fp32, and the result
    is copied down. ``ema`` follows the masters: ema = decay * ema + (1 - decay) * master.
    """

    def __init__(
        self, named: Iterable[tuple[str, nn.Parameter]], *, ema_decay: float, weight_decay: float
    ) -> None:
        pairs = [(name, p) for name, p in named if p.requires_grad]
        self.names = [name for name, _ in pairs]
        self.parameters = [p for _, p in pairs]
        self.masters = [p.detach().float().clone() for p in self.parameters]
        self.ema = [m.clone() for m in self.masters]
        self.ema_decay = ema_decay
        matrices = [m for m in self.masters if m.ndim > 1]
        vectors = [m for m in self.masters if m.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=0.0,
            betas=(0.9, 0.98),
            fused=True,
        )

    def step(self, learning_rate: float, max_norm: float, num_steps_done: int) -> float:
        """One optimiser step; returns the gradient norm. A non-finite gradient skips the step."""
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        norm = float(nn.utils.clip_grad_norm_(self.masters, max_norm, foreach=True))
        if norm != norm or norm == float("inf"):
            return norm
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.masters)
            if (num_steps_done + 1) % EMA_EVERY == 0:
                decay = min(self.ema_decay, (1 + num_steps_done) / (10 + num_steps_done))
                torch._foreach_lerp_(self.ema, self.masters, 1 - decay**EMA_EVERY)
        return norm

    def averaged(self) -> dict[str, Tensor]:
        """Parameter name to its moving average, fp32."""
        return dict(zip(self.names, self.ema, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs to go on bit for bit."""
        return {
            "masters": dict(zip(self.names, self.masters, strict=True)),
            "ema": self.averaged(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict` and copy the masters down into the model."""
        with torch.no_grad():
            for name, master, ema in zip(self.names, self.masters, self.ema, strict=True):
                master.copy_(state["masters"][name])
                ema.copy_(state["ema"][name])
            torch._foreach_copy_(self.parameters, self.masters)
        self.optimizer.load_state_dict(state["optimizer"])
