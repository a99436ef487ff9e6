# Shapes: N pictures, L tokens of the image encoder, D their width, T image tokens, C their width.
"""The small networks between image encoder and cross-attention that look at each token alone."""

from __future__ import annotations

import torch
from torch import nn

from ..errors import require_shape


class ImageProjection(nn.Module):
    """IP-Adapter's base kind: LayerNorm(Linear(pooled vector)), cut into T tokens.

    >>> ImageProjection(8, 6, num_tokens=4)(torch.zeros(2, 8)).shape
    torch.Size([2, 4, 6])
    """

    def __init__(self, embed_dim: int, output_dim: int, num_tokens: int = 4) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.num_tokens = num_tokens
        self.proj = nn.Linear(embed_dim, num_tokens * output_dim)
        self.norm = nn.LayerNorm(output_dim)

    def forward(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """(N, D) pooled and projected -> (N, T, C)."""
        require_shape("image_embeds", image_embeds, ("N", self.embed_dim), "Use its encoder")
        tokens: torch.Tensor = self.norm(
            self.proj(image_embeds).unflatten(-1, (self.num_tokens, -1))
        )
        return tokens


class FullFaceProjection(nn.Module):
    """IP-Adapter's "full face" kind: LayerNorm(Linear(GELU(Linear))) of every token.

    >>> FullFaceProjection(8, 6)(torch.zeros(2, 5, 8)).shape
    torch.Size([2, 5, 6])
    """

    def __init__(self, embed_dim: int, output_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.proj = nn.Sequential(
            nn.Linear(embed_dim, embed_dim),
            nn.GELU(),
            nn.Linear(embed_dim, output_dim),
            nn.LayerNorm(output_dim),
        )

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(N, L, D) -> (N, L, C)."""
        require_shape("hidden_states", hidden_states, ("N", "L", self.embed_dim), "Use its encoder")
        tokens: torch.Tensor = self.proj(hidden_states)
        return tokens
