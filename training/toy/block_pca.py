"""The linear half of the tiny autoencoder: principal components of 8x8 pixel blocks.

# Shapes: B batch, H image size, C latent channels, K = 192 values of a block (RGB x 8 x 8 pixels,
# in the order of `torch.pixel_unshuffle`: colour, row, column).
A learnt encoder of this size needs far more steps than the tiny recipe has before it stops losing
whole colour axes; the linear transform is optimal among linear ones, exact, and ready in a minute.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from subject_diffusion_core.tiny.block_autoencoder import BLOCK_SIZE, BLOCK_VALUES, BlockAutoencoder

from ..bases.encoders import to_pixels

MAX_LATENT_STD = 1.3
CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class BlockBasis:
    """latents = weight @ (block - center), blocks in -1..1.

    Attributes:
        center: (K,) mean of the blocks.
        weight: (C, K) scaled principal directions.
    """

    center: Tensor
    weight: Tensor

    def encode(self, images: np.ndarray) -> Tensor:
        """Latents (B, C, H/8, H/8) of pictures (B, H, H, 3) uint8."""
        return torch.einsum(
            "bkhw,ck->bchw", blocks(images) - self.center[:, None, None], self.weight
        )


def basis_of(autoencoder: BlockAutoencoder) -> BlockBasis:
    """The transform inside an autoencoder, as :func:`install_basis` wrote it there."""
    weight = autoencoder.analysis.weight.detach().flatten(1)
    bias = biases(autoencoder)[0].detach().double()
    return BlockBasis(center=(-torch.linalg.pinv(weight.double()) @ bias).float(), weight=weight)


def blocks(images: np.ndarray) -> Tensor:
    """Blocks (B, K, H/8, H/8) in -1..1 of pictures (B, H, H, 3) uint8."""
    return F.pixel_unshuffle(to_pixels(images), BLOCK_SIZE)


def fit_basis(images: np.ndarray, num_latents: int) -> BlockBasis:
    """Principal directions of the blocks of ``images`` (B, H, H, 3) uint8.

    Direction k, whose standard deviation is s_k, is scaled to a standard deviation in proportion to
    sqrt(s_k) (half whitening: coarse structure stays louder than detail), at most
    ``MAX_LATENT_STD``, such that the variances before that limit average to one.
    """
    total, products, count = torch.zeros(BLOCK_VALUES), torch.zeros(BLOCK_VALUES, BLOCK_VALUES), 0
    total, products = total.double(), products.double()
    for start in range(0, len(images), CHUNK):
        rows = blocks(images[start : start + CHUNK]).permute(0, 2, 3, 1).flatten(0, 2).double()
        total += rows.sum(0)
        products += rows.T @ rows
        count += len(rows)
    center = total / count
    values, vectors = torch.linalg.eigh(products / count - torch.outer(center, center))
    std = values.flip(0)[:num_latents].clamp(min=1e-12).sqrt()
    directions = vectors.flip(1)[:, :num_latents].T
    wanted = (std / std.mean()).sqrt().clamp(max=MAX_LATENT_STD)
    return BlockBasis(center=center.float(), weight=(directions * (wanted / std)[:, None]).float())


@torch.no_grad()
def install_basis(model: BlockAutoencoder, basis: BlockBasis) -> None:
    """Write the transform and its linear inverse into the autoencoder."""
    inverse = torch.linalg.pinv(basis.weight.double()).float()
    into, back = biases(model)
    model.analysis.weight.copy_(basis.weight.reshape(model.analysis.weight.shape))
    into.copy_(-basis.weight @ basis.center)
    model.synthesis.weight.copy_(inverse[:, :, None, None])
    back.copy_(basis.center)


def biases(model: BlockAutoencoder) -> tuple[Tensor, Tensor]:
    """Of the linear transform and of its inverse."""
    into, back = model.analysis.bias, model.synthesis.bias
    assert into is not None and back is not None
    return into, back
