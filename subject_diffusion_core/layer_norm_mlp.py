"""The one MLP of the method: it makes grounding tokens and token embeddings."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class LayerNormMlp(nn.Module):
    """LayerNorm -> Linear -> GELU -> Linear, no residual: (..., in_dim) -> (..., out_dim).

    >>> LayerNormMlp(6, 8, 4)(torch.zeros(2, 3, 6)).shape
    torch.Size([2, 3, 4])
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(in_dim)
        self.fc1 = nn.Linear(in_dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, out_dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(..., in_dim) -> (..., out_dim)."""
        hidden: torch.Tensor = self.fc2(F.gelu(self.fc1(self.layernorm(features))))
        return hidden
