"""Muon (Jordan et al. 2024): momentum whose singular values are all brought to about one.

Kernels are matrices here, one row an output channel. As Moonlight (Liu et al. 2025) has it, a step
is scaled to the size that AdamW's have, so that one learning rate serves both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.loop.optimizers import ADAM_BETA1, NamedParameters
from training.precision import fastest_precision

MOMENTUM, STEP_SIZE, EPSILON = 0.95, 0.2, 1e-8
ROUNDS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)
NOT_MATRICES = ("embedding", "conv_in", "conv_out")  # of words and places, and both ends


class Muon(torch.optim.Optimizer):
    """Muon for the matrices inside, AdamW for tables, both ends of the UNet and vectors."""

    def __init__(self, parameters: NamedParameters, rate: float, beta2: float) -> None:
        inside: list[Tensor] = []
        others: list[Tensor] = []
        for name, parameter in parameters:
            matrix = parameter.ndim > 1 and not any(part in name for part in NOT_MATRICES)
            (inside if matrix else others).append(parameter)
        groups = [{"params": inside, "muon": True}, {"params": others, "muon": False}]
        super().__init__(groups, {"lr": rate, "beta2": beta2})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step with the rates of ``param_groups``."""
        for group in self.param_groups:
            move = self.take_muon if group["muon"] else self.take_adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    move(parameter, parameter.grad, group)

    def take_muon(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Nesterov's momentum, made orthogonal."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        ahead = gradient.lerp(momentum, MOMENTUM).flatten(1)
        size = STEP_SIZE * max(ahead.shape) ** 0.5
        parameter.sub_(group["lr"] * size * orthogonal(ahead).reshape(parameter.shape))

    def take_adam(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Adam's step."""
        state = self.state[parameter]
        if not state:
            state["first"] = torch.zeros_like(parameter)
            state["second"] = torch.zeros_like(parameter)
            state["steps"] = torch.zeros(())
        state["steps"] += 1
        first = state["first"].lerp_(gradient, 1 - ADAM_BETA1)
        second = state["second"].lerp_(gradient.square(), 1 - group["beta2"])
        count = state["steps"].item()
        size = group["lr"] / (1 - ADAM_BETA1**count)
        spread = (second / (1 - group["beta2"] ** count)).sqrt_().add_(EPSILON)
        parameter.addcdiv_(first, spread, value=-size)


def orthogonal(matrix: Tensor) -> Tensor:
    """``matrix`` (m, n) with singular values of .7 to 1.2 in place of its own: five rounds of a
    polynomial of Newton and Schulz's kind, in bf16 where that is fastest."""
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    if fastest_precision(matrix.device) == "bfloat16":
        found = found.bfloat16()
    found = found / (found.norm() + 1e-7)
    first, third, fifth = COEFFICIENTS
    for _ in range(ROUNDS):
        square = found @ found.T
        found = first * found + (third * square + fifth * square @ square) @ found
    turned: Tensor = found.T if tall else found
    return turned.to(matrix.dtype)
