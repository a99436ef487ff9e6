"""LoRA for the text encoder: a projection gives W x + B (A x).

The product is added to the output, not to the weight: a small delta added to a weight in bf16 would
be rounded away. Names are those of a parametrization, as runs before this one have saved them.
# Shapes: r rank, weights (out, in).
"""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PROJECTIONS = re.compile(r"(q_proj|k_proj|v_proj|out_proj|fc1|fc2)$")
_PART = ".parametrizations.weight."


class LowRankDelta(nn.Module):
    """x -> B (A x); B starts at zero, so nothing changes at first."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out_features, in_features = weight.shape
        self.down = nn.Parameter(torch.randn(rank, in_features) * in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(out_features, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        return F.linear(F.linear(inputs, self.down), self.up)


class WeightWithDelta(nn.ModuleList):
    """A weight and its delta, under the names that a parametrization gives them."""

    def __init__(self, weight: Tensor, delta: LowRankDelta) -> None:
        super().__init__([delta])
        self.original = weight


class LowRankLinear(nn.Module):
    """A linear layer with a low-rank delta beside it."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = layer.bias
        delta = LowRankDelta(layer.weight, min(rank, *layer.weight.shape))
        self.parametrizations = nn.ModuleDict({"weight": WeightWithDelta(layer.weight, delta)})

    @property
    def weight(self) -> Tensor:
        """The layer's own weight, without the delta."""
        return self.get_parameter("parametrizations.weight.original")

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        delta: Tensor = self.get_submodule("parametrizations.weight.0")(inputs)
        return F.linear(inputs, self.weight, self.bias) + delta


def add_low_rank(module: nn.Module, rank: int) -> None:
    """Give every projection of a transformer a low-rank delta."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.Linear) and _PROJECTIONS.search(name):
            parent = module.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], LowRankLinear(layer, rank))


def is_low_rank(name: str) -> bool:
    """Whether a parameter belongs to a delta."""
    return f"{_PART}0." in name


def merged(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with every delta added to its weight, under the plain names."""
    result = {name: tensor for name, tensor in state.items() if _PART not in name}
    for name, tensor in state.items():
        if name.endswith(f"{_PART}original"):
            stem = name.removesuffix(f"{_PART}original")
            up, down = (state[f"{stem}{_PART}0.{part}"].float() for part in ("up", "down"))
            result[f"{stem}.weight"] = (tensor.float() + up @ down).to(tensor.dtype)
    return result
