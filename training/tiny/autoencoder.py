"""The tiny autoencoder (``BlockAutoencoder``): its fixed encoder, and the pictures it is fitted to.

# Shapes: C latent channels, H image size; latents are H/8 x H/8.
The encoder is fixed (``block_pca.py``) and its latents have about unit variance, so no scaling
factor is needed later. ``decoder.py`` trains the decoder.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch

from subject_diffusion_core.block_autoencoder import BlockAutoencoder

from ..data.shards import read_shards
from ..data.split import assert_split
from ..runs import save_state
from .block_pca import BlockBasis, fit_basis
from .recipe import AutoencoderRecipe


def build_autoencoder(recipe: AutoencoderRecipe) -> BlockAutoencoder:
    """The untrained autoencoder."""
    return BlockAutoencoder(latent_channels=recipe.latent_channels)


def load_images(shards: Path, num_images: int) -> np.ndarray:
    """The first ``num_images`` pictures of a shard folder, uint8 (num_images, H, H, 3)."""
    samples = list(itertools.islice(read_shards(shards), num_images))
    assert_split({e.identity for sample in samples for e in sample.entities}, "train")
    return np.stack([sample.image for sample in samples])


def fit_encoder(shards: Path, work: Path, recipe: AutoencoderRecipe) -> Path:
    """Fit the encoder; returns ``basis.pt``, the linear transform."""
    path = work / "basis.pt"
    if not path.exists():
        basis = fit_basis(load_images(shards, recipe.num_images // 2), recipe.latent_channels)
        save_state(path, {"center": basis.center, "weight": basis.weight})
    return path


def load_basis(path: Path) -> BlockBasis:
    """What :func:`fit_encoder` wrote."""
    return BlockBasis(**torch.load(path, map_location="cpu", weights_only=True))
