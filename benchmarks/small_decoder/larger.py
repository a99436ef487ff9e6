"""The small model's autoencoder with parts under test, which begin as nothing.

# Shapes: B batch, C latent channels, H picture side, h = H/8.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subject_diffusion_core.tiny.block_autoencoder import (
    BLOCK_SIZE,
    BlockAutoencoder,
    ResidualConvolutions,
)

SMOOTH_BLOCK, SMOOTH_DEPTH = 2, 2  # the last part sees pixels two by two


class LargerAutoencoder(BlockAutoencoder):
    """The autoencoder of ``stored``, and more.

    Args:
        smooth_width: channels of a last part that sees the decoded picture, at half of its size,
            and corrects it across the blocks' borders; 0 has none.
        overlap: pixels around a block that its latents see, too.
    """

    def __init__(self, stored: BlockAutoencoder, smooth_width: int, overlap: int) -> None:
        super().__init__(**stored.sizes)
        self.load_state_dict(stored.state_dict())
        own = self.analysis
        seen = BLOCK_SIZE + 2 * overlap
        self.analysis = nn.Conv2d(3, own.out_channels, seen, stride=BLOCK_SIZE, padding=overlap)
        self.analysis.weight = nn.Parameter(F.pad(own.weight.detach(), [overlap] * 4))
        self.analysis.bias = own.bias
        self.smooth = nn.Sequential()
        if smooth_width:
            values = 3 * SMOOTH_BLOCK**2
            last = nn.Conv2d(smooth_width, values, 3, padding=1)
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
            self.smooth = nn.Sequential(
                nn.Conv2d(values, smooth_width, 3, padding=1),
                *(ResidualConvolutions(smooth_width) for _ in range(SMOOTH_DEPTH)),
                last,
            )

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, h) -> pictures (B, 3, H, H)."""
        image = super().decode(latents)
        if len(self.smooth) == 0:
            return image
        change: torch.Tensor = self.smooth(F.pixel_unshuffle(image, SMOOTH_BLOCK))
        return image + F.pixel_shuffle(change, SMOOTH_BLOCK)
