# Shapes: B batch, C latent channels, H, W picture size (multiples of 8), h = H/8, w = W/8.
"""The tiny model's autoencoder: principal components of 8x8 blocks, and a refining decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import require_shape

BLOCK_SIZE = 8
BLOCK_VALUES = 3 * BLOCK_SIZE * BLOCK_SIZE
_MIDDLE_SCALE = 2  # the refinement's second half works on pixels of 1/4 of the picture's size


class ResidualConvolutions(nn.Module):
    """x + conv(silu(conv(silu(x)))), 3x3."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, width, h, w) -> the same shape."""
        inner: torch.Tensor = self.conv2(F.silu(self.conv1(F.silu(hidden))))
        return hidden + inner


class BlockAutoencoder(nn.Module):
    """Latents z = W (x - m) of every block x of 8x8 pixels; a picture is their linear inverse plus
    what a small network adds, which sees the neighbouring blocks.

    The linear part is exact from the start (`training/toy/block_pca.py` fits it), so the network
    only has to learn what it leaves out. Latents have about unit variance: no scaling factor.

    Args:
        latent_channels: C.
        width, depth: channels and residual blocks of the refinement at the latent's size.
        fine_width, fine_depth: the same at twice that size.

    Attributes:
        sizes: the arguments, to build it again.
    """

    def __init__(
        self,
        latent_channels: int,
        width: int = 192,
        depth: int = 3,
        fine_width: int = 64,
        fine_depth: int = 2,
    ) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.sizes = {
            "latent_channels": latent_channels,
            "width": width,
            "depth": depth,
            "fine_width": fine_width,
            "fine_depth": fine_depth,
        }
        self.analysis = nn.Conv2d(3, latent_channels, BLOCK_SIZE, stride=BLOCK_SIZE)
        self.synthesis = nn.Conv2d(latent_channels, BLOCK_VALUES, 1)
        self.coarse = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            *(ResidualConvolutions(width) for _ in range(depth)),
            nn.Conv2d(width, fine_width * _MIDDLE_SCALE**2, 1),
        )
        values = BLOCK_VALUES // _MIDDLE_SCALE**2
        to_pixels = nn.Conv2d(fine_width, values, 3, padding=1)
        for parameter in to_pixels.parameters():
            nn.init.zeros_(parameter)
        self.fine = nn.Sequential(
            *(ResidualConvolutions(fine_width) for _ in range(fine_depth)), to_pixels
        )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> BlockAutoencoder:
        """As the tiny base's file states it: the arguments, and the name of the class."""
        return cls(**{key: value for key, value in config.items() if key != "class"})

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 3, H, W) in -1..1 -> latents (B, C, h, w)."""
        require_shape("images", images, ("B", 3, "H", "W"), "Pass RGB pictures")
        latents: torch.Tensor = self.analysis(images)
        return latents

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, h, w) -> pictures (B, 3, H, W), about -1..1, not clamped."""
        expected = ("B", self.latent_channels, "h", "w")
        require_shape("latents", latents, expected, "Use the latents of this autoencoder")
        hidden = F.pixel_shuffle(self.coarse(latents), _MIDDLE_SCALE)
        detail = F.pixel_shuffle(self.fine(hidden), BLOCK_SIZE // _MIDDLE_SCALE)
        return F.pixel_shuffle(self.synthesis(latents), BLOCK_SIZE) + detail
