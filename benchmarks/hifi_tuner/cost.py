# Shapes: b samples, L vectors of a text, q, l positions, H heads, K width of a head.
"""What gradients to the text cost at full geometry: arithmetic, and the memory of activations."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..full_geometry import SD15, SDXL, make_base

GEOMETRIES = (
    ("Stable Diffusion 1.5, 512 x 512", "SD15", SD15, 64),
    ("Stable Diffusion XL, 1024 x 1024", "SDXL", SDXL, 128),
)
NUM_UPDATES, STEPS, GUIDED_STEPS = 10, 50, 31
BLOCKS = ("ResBlock", "BasicTransformerBlock")
Attention = Callable[..., torch.Tensor]


@dataclass
class Activations:
    """What autograd keeps of a forward pass, in bytes of half precision; weights do not count.

    Attributes:
        inside: of each block.
        outside: of what is in no block.
        inputs: of the blocks, which checkpointing per block keeps in place of their inside.
    """

    inside: dict[str, int] = field(default_factory=dict)
    outside: int = 0
    inputs: int = 0

    @property
    def all_kept(self) -> int:
        return self.outside + sum(self.inside.values())

    @property
    def checkpointed(self) -> int:
        """With one block at a time computed again."""
        return self.outside + self.inputs + max(self.inside.values())


class KeptByFusedAttention(torch.autograd.Function):
    """Stands for fused attention on tensors without content: keeps queries, keys, values and the
    result, not the map."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        attended = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, attended)
        return attended

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, ...]:
        query, key, value, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


class GradientCounter:
    """A UNet on tensors without content, as Tune Embedding and the samplers call it."""

    def __init__(self, family: str, config: dict[str, Any], side: int) -> None:
        self._config, self._side = config, side
        self._unet: nn.Module = make_base(family, config, torch.device("meta")).diffusion_model
        self._unet.requires_grad_(False)

    def arithmetic(self, with_gradient: bool) -> float:
        """Floating point operations of a call of one sample, and of its gradient to the text."""
        kernels = importlib.import_module("comfy.ldm.modules.attention")
        with FlopCounterMode(display=False) as counter:
            predicted = self._call(kernels.attention_basic, with_gradient)
            if with_gradient:
                predicted.sum().backward()
        return float(counter.get_total_flops())

    def activations(self) -> Activations:
        """Of a call of one sample with a gradient to the text."""
        kept, stack = Activations(), ["outside"]
        seen: set[int] = set()
        weights = {parameter.untyped_storage()._cdata for parameter in self._unet.parameters()}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in seen | weights:
                seen.add(storage._cdata)
                alive.append(storage)  # or another tensor gets its place
                size = storage.nbytes() // 2
                if len(stack) == 1:
                    kept.outside += size
                else:
                    kept.inside[stack[1]] = kept.inside.get(stack[1], 0) + size
            return tensor

        alive: list[torch.UntypedStorage] = []
        with (
            self._blocks_noted(kept, stack),
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        ):
            self._call(fused_attention, True)
        return kept

    @contextmanager
    def _blocks_noted(self, kept: Activations, stack: list[str]) -> Iterator[None]:
        """Inside, `stack` ends with the block that runs, and blocks' inputs are added up."""

        def enter(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
                stack.append(name)
                kept.inputs += inputs[0].nbytes // 2 if inputs[0].requires_grad else 0

            return hook

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            stack.pop()

        hooks = []
        for name, module in self._unet.named_modules():
            if type(module).__name__ in BLOCKS:
                hooks.append(module.register_forward_pre_hook(enter(name)))
                hooks.append(module.register_forward_hook(leave))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _call(self, attention: Attention, with_gradient: bool) -> torch.Tensor:
        x = torch.zeros(1, 4, self._side, self._side, device="meta")
        text = torch.zeros(1, 77, self._config["context_dim"], device="meta")
        adm = self._config["adm_in_channels"]
        with torch.inference_mode(False), torch.set_grad_enabled(with_gradient):
            predicted: torch.Tensor = self._unet(
                x,
                torch.zeros(1, device="meta"),
                context=text.requires_grad_(with_gradient),
                y=None if adm is None else torch.zeros(1, adm, device="meta"),
                transformer_options={
                    "optimized_attention_override": lambda function, *args, **kwargs: attention(
                        *args, **{**kwargs, "_inside_attn_wrapper": True}
                    )
                },
            )
        return predicted


def fused_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int, **_options: Any
) -> torch.Tensor:
    """(b, q, H*K), (b, l, H*K) twice -> (b, q, H*K), with no numbers in it."""
    attended: torch.Tensor = KeptByFusedAttention.apply(query, key, value)  # type: ignore[no-untyped-call]
    return attended


def measure_cost() -> list[str]:
    """The table's lines: rows (calls of one sample) of each part, and GB of activations."""
    lines = [
        "Counted on tensors without content. A row is the model's call with one sample; a plain "
        "step with guidance has 2. Activations of one sample in half precision, with fused "
        "attention.",
        "",
        "| | " + " | ".join(title for title, *_ in GEOMETRIES) + " |",
        "|---|" + "---|" * len(GEOMETRIES),
    ]
    counters = [GradientCounter(*geometry[1:]) for geometry in GEOMETRIES]
    gradient = [each.arithmetic(True) / each.arithmetic(False) for each in counters]
    guided = [3 + NUM_UPDATES * rows for rows in gradient]
    whole = [
        2 * STEPS + 2 * (STEPS - GUIDED_STEPS) + GUIDED_STEPS * each + 2 * STEPS for each in guided
    ]
    kept = [each.activations() for each in counters]
    rows = {
        "call with its gradient to the text, rows": [f"{each:.2f}" for each in gradient],
        "tuning step, in plain steps": [f"{each / 2:.2f}" for each in gradient],
        f"guided step of {NUM_UPDATES} updates, in plain steps": [f"{x / 2:.1f}" for x in guided],
        f"picture of {STEPS} steps, {GUIDED_STEPS} guided, with inversion and first pass, in plain "
        "pictures": [f"{each / (2 * STEPS):.1f}" for each in whole],
        "activations, all kept, GB": [f"{each.all_kept / 1e9:.2f}" for each in kept],
        "with checkpointing per block, GB": [f"{each.checkpointed / 1e9:.2f}" for each in kept],
    }
    return lines + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]
