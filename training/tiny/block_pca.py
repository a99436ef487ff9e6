"""The tiny autoencoder's encoder: a principal-component transform of 8x8 blocks, in TAESD's shape.

# Shapes: B batch, H image size, c = 16 latents,
# K = 48 means of a block (4x4 cells of 2x2 pixels, RGB).
A learnt encoder of this size needs far more steps than the tiny recipe has before it stops losing
whole colour axes; the linear transform is optimal among linear ones, exact, and ready in a minute.
All of it stays non-negative until the last convolution, so TAESD's ReLUs leave it unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

CELLS = 4
NUM_MEANS = CELLS * CELLS * 3
MAX_LATENT_STD = 1.3


@dataclass(frozen=True, kw_only=True)
class BlockBasis:
    """latents = (means - center) @ weight.T, for means in [0, 1].

    Attributes:
        center: (K,) mean of the block means.
        weight: (c, K) scaled principal directions.
    """

    center: Tensor
    weight: Tensor

    def encode(self, images: np.ndarray) -> Tensor:
        """Latents (B, c, H/8, H/8) of pictures (B, H, H, 3) uint8."""
        means = torch.from_numpy(block_means(images))
        return ((means - self.center) @ self.weight.T).permute(0, 3, 1, 2)

    def decode(self, latents: Tensor) -> np.ndarray:
        """A coarse preview: the linear inverse, (B, H, H, 3) uint8, constant over 2x2 pixels."""
        means = latents.permute(0, 2, 3, 1) @ torch.linalg.pinv(self.weight).T + self.center
        batch, side = means.shape[:2]
        cells = means.reshape(batch, side, side, CELLS, CELLS, 3).permute(0, 1, 3, 2, 4, 5)
        pixels = cells.reshape(batch, side * CELLS, side * CELLS, 3)
        pixels = pixels.repeat_interleave(2, 1).repeat_interleave(2, 2)
        return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def block_means(images: np.ndarray) -> np.ndarray:
    """Means over 2x2 pixels, by 8x8 block: (B, H, H, 3) uint8 to (B, H/8, H/8, K) in [0, 1].

    The order within a block is row, column, colour.
    """
    batch, side = images.shape[:2]
    halved = images.reshape(batch, side // 2, 2, side // 2, 2, 3).mean((2, 4)) / 255
    blocks = halved.reshape(batch, side // 8, CELLS, side // 8, CELLS, 3).transpose(
        0, 1, 3, 2, 4, 5
    )
    return blocks.reshape(batch, side // 8, side // 8, NUM_MEANS).astype(np.float32)


def fit_basis(images: np.ndarray, num_latents: int) -> BlockBasis:
    """Principal directions of the blocks of ``images`` (B, H, H, 3) uint8.

    Direction k, whose standard deviation is s_k, is scaled to a standard deviation in proportion to
    sqrt(s_k) (half whitening: coarse structure stays louder than detail), at most
    ``MAX_LATENT_STD``, such that the variances before that limit average to one.
    """
    means = block_means(images).reshape(-1, NUM_MEANS).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(means.T))
    std = np.sqrt(values[::-1][:num_latents])
    directions = vectors[:, ::-1][:, :num_latents].T
    wanted = np.minimum(np.sqrt(std / std.mean()), MAX_LATENT_STD)
    weight = directions * (wanted / std)[:, None]
    return BlockBasis(
        center=torch.from_numpy(means.mean(0)).float(), weight=torch.from_numpy(weight).float()
    )


@torch.no_grad()
def install_encoder(model: AutoencoderTiny, basis: BlockBasis) -> None:
    """Write the transform into TAESD's encoder: average, space-to-depth twice, 1x1 product."""
    layers = model.encoder.layers
    convolutions = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    for layer in layers:
        if not isinstance(layer, nn.Conv2d):
            nn.init.zeros_(layer.conv[-1].weight)  # the block becomes its skip
            nn.init.zeros_(layer.conv[-1].bias)
    for convolution in convolutions:
        nn.init.zeros_(convolution.weight)
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
    first, average, *gathers, last = convolutions
    for color in range(3):
        first.weight[color, color, 1, 1] = 1
        average.weight[color, color, 1:, 1:] = 0.25
    for gather, span in zip(gathers, (1, 2), strict=True):
        _write_space_to_depth(gather.weight, span)
    last.weight[:, :NUM_MEANS, 1, 1] = basis.weight
    last.bias.copy_(-basis.weight @ basis.center)


def _write_space_to_depth(weight: Tensor, span: int) -> None:
    """A stride-2 kernel: span x span cells of 2x2 neighbours to (2 span) x (2 span) cells."""
    for dy in range(2):
        for dx in range(2):
            for y in range(span):
                for x in range(span):
                    source = (y * span + x) * 3
                    target = ((dy * span + y) * 2 * span + dx * span + x) * 3
                    for color in range(3):
                        weight[target + color, source + color, 1 + dy, 1 + dx] = 1
