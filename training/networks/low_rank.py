"""LoRA for the text encoder, as a parametrization: the weight is W + scale * B A.

# Shapes: r rank, weights (out, in).
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

_PROJECTIONS = re.compile(r"(q_proj|k_proj|v_proj|out_proj|fc1|fc2)$")
_PART = ".parametrizations.weight."


class LowRankDelta(nn.Module):
    """W -> W + B A; B starts at zero, so nothing changes at first."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        out_features, in_features = weight.shape
        self.down = nn.Parameter(torch.randn(rank, in_features) * in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(out_features, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in) -> (out, in)."""
        return weight + (self.up @ self.down).to(weight.dtype)


def add_low_rank(module: nn.Module, rank: int) -> None:
    """Give every projection of a transformer a low-rank delta."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, nn.Linear) and _PROJECTIONS.search(name):
            limit = min(rank, *layer.weight.shape)
            delta = LowRankDelta(layer.weight, limit)
            parametrize.register_parametrization(layer, "weight", delta)


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
