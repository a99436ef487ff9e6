"""Optimisers of a run and the moving average of what they train."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from ..recipes.configuration import TrainingRecipe
from ..runs import cosine_learning_rate
from .sharding import in_pieces_like

ADAM_BETA1 = 0.9
NamedParameters = list[tuple[str, nn.Parameter]]


def trainable(model: nn.Module) -> NamedParameters:
    """Names and parameters that are trained, in a fixed order."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def learning_rate(recipe: TrainingRecipe, step: int) -> float:
    """The rate of a step (0 = first): a linear warm-up, then constant or a cosine."""
    if recipe.schedule == "cosine":
        return cosine_learning_rate(step, recipe.steps, recipe.learning_rate, recipe.warmup_steps)
    return recipe.learning_rate * min(1.0, (step + 1) / max(1, recipe.warmup_steps))


def build_optimizer(parameters: NamedParameters, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """The recipe's optimiser; only matrices decay."""
    matrices = [p for _, p in parameters if p.ndim > 1]
    vectors = [p for _, p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    arguments: dict[str, Any] = {
        "lr": recipe.learning_rate,
        "betas": (ADAM_BETA1, recipe.adam_beta2),
    }
    if recipe.optimizer == "adamw8bit":
        optimizer: torch.optim.Optimizer = _bitsandbytes().AdamW8bit(groups, **arguments)
        return optimizer
    if recipe.offload_optimizer:
        return OffloadedAdamW(groups, **arguments)
    return torch.optim.AdamW(groups, **arguments, fused=True)


def _bitsandbytes() -> Any:
    try:
        from bitsandbytes import optim
    except ImportError as error:
        raise ModuleNotFoundError(
            "optimizer: expected the package bitsandbytes for adamw8bit, got none. "
            "Run `pip install .[adam8bit]`, or use --set optimizer=adamw."
        ) from error
    return optim


class OffloadedAdamW(torch.optim.Optimizer):
    """AdamW whose fp32 weights and moments lie in the CPU's memory.

    Gradients go down, the step is taken there, the weights come back. On the GPU remain weights and
    gradients: half of what AdamW keeps there otherwise.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float]):
        super().__init__(list(groups), {"lr": lr, "betas": betas, "weight_decay": 0.0})
        self.copies = [
            [p.detach().to("cpu", torch.float32, copy=True) for p in group["params"]]
            for group in self.param_groups
        ]
        self.inner = torch.optim.AdamW(
            [
                {"params": copies, "weight_decay": group["weight_decay"]}
                for copies, group in zip(self.copies, self.param_groups, strict=True)
            ],
            lr=lr,
            betas=betas,
            fused=True,
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step on the CPU, with the learning rates of ``param_groups``."""
        pairs = list(zip(self.copies, self.param_groups, self.inner.param_groups, strict=True))
        for copies, group, inner in pairs:
            inner["lr"] = group["lr"]
            for copy, parameter in zip(copies, group["params"], strict=True):
                copy.grad = None if parameter.grad is None else parameter.grad.to("cpu", copy.dtype)
        self.inner.step()
        for copies, group, _ in pairs:
            for copy, parameter in zip(copies, group["params"], strict=True):
                parameter.copy_(copy)
                copy.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The inner optimiser's state; the copies are the weights themselves."""
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore, after the weights have been restored in the model."""
        with torch.no_grad():
            for copies, group in zip(self.copies, self.param_groups, strict=True):
                for copy, parameter in zip(copies, group["params"], strict=True):
                    copy.copy_(parameter)
        self.inner.load_state_dict(state_dict)


class WeightAverage:
    """Moving average of the trained weights, fp32: average = decay * average + (1 - decay) * w.

    Early on the decay is smaller, (1 + step) / (10 + step), so that the start is forgotten.
    """

    def __init__(self, parameters: NamedParameters, recipe: TrainingRecipe) -> None:
        self.names = [name for name, _ in parameters]
        self.parameters = [p for _, p in parameters]
        self.decay, self.every = recipe.ema_decay, recipe.ema_every
        self.values = [
            p.detach().float().to("cpu" if recipe.ema_device == "cpu" else p.device, copy=True)
            for p in self.parameters
        ]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the weights after the step number ``step`` (0 = first)."""
        if (step + 1) % self.every:
            return
        decay = min(self.decay, (1 + step) / (10 + step)) ** self.every
        for value, parameter in zip(self.values, self.parameters, strict=True):
            value.lerp_(parameter.detach().to(value), 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """Name to average."""
        return dict(zip(self.names, self.values, strict=True))

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Restore :meth:`state`."""
        for name, value in zip(self.names, self.values, strict=True):
            value.copy_(in_pieces_like(state[name], value))
