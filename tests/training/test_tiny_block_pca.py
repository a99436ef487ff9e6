"""The encoder's linear transform, and TAESD's encoder holding it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from training.tiny.block_pca import MAX_LATENT_STD, block_means, fit_basis, install_encoder


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (6, 8, 8, 3))
    smooth = coarse.repeat(8, 1).repeat(8, 2)
    return (smooth * 0.9 + rng.integers(0, 25, smooth.shape)).astype(np.uint8)


def test_block_means_by_hand() -> None:
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture[0, 2:4, 4:6, 1] = 255  # cell row 1, column 2, green
    means = block_means(picture)[0, 0, 0].reshape(4, 4, 3)
    assert means[1, 2, 1] == 1
    assert means.sum() == 1


def test_convolutional_encoder_equals_the_linear_transform(pictures: np.ndarray) -> None:
    basis = fit_basis(pictures, 16)
    model = AutoencoderTiny(latent_channels=16)
    install_encoder(model, basis)
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = model.encode(pixels).latents
    torch.testing.assert_close(latents, basis.encode(pictures), atol=1e-4, rtol=1e-4)


def test_latents_are_centred_and_limited(pictures: np.ndarray) -> None:
    latents = fit_basis(pictures, 16).encode(pictures)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert latents.std((0, 2, 3)).max() < MAX_LATENT_STD * 1.01


def test_linear_inverse_restores_smooth_pictures(pictures: np.ndarray) -> None:
    basis = fit_basis(pictures, 16)
    restored = basis.decode(basis.encode(pictures)).astype(float)
    assert np.abs(restored - pictures).mean() < 8
