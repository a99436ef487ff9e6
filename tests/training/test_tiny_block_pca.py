"""The autoencoder's linear half: principal components of blocks, and the network holding them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from training.toy.autoencoder import border_distance, noise_levels
from training.toy.block_pca import MAX_LATENT_STD, blocks, fit_basis, install_basis
from training.toy.recipe import AutoencoderRecipe


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (6, 8, 8, 3))
    smooth = coarse.repeat(8, 1).repeat(8, 2)
    return (smooth * 0.9 + rng.integers(0, 25, smooth.shape)).astype(np.uint8)


def as_tensor(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def test_blocks_by_hand() -> None:
    picture = np.zeros((1, 8, 16, 3), np.uint8)
    picture[0, 2, 8 + 5, 1] = 255  # second block, row 2, column 5, green
    values = blocks(picture)[0, :, 0, 1]
    assert values.argmax() == 64 + 2 * 8 + 5
    assert values.sum() == 1 - 191


def test_the_network_starts_as_the_transform_and_its_inverse(pictures: np.ndarray) -> None:
    basis = fit_basis(pictures, 24)
    model = BlockAutoencoder(24)
    install_basis(model, basis)
    with torch.no_grad():
        latents = model.encode(as_tensor(pictures))
        restored = model.decode(latents)
    torch.testing.assert_close(latents, basis.encode(pictures), atol=1e-4, rtol=1e-4)
    inverse = torch.linalg.pinv(basis.weight)
    wanted = torch.einsum("bchw,kc->bkhw", latents, inverse) + basis.center[:, None, None]
    torch.testing.assert_close(
        torch.nn.functional.pixel_unshuffle(restored, 8), wanted, atol=1e-4, rtol=1e-4
    )


def test_latents_are_centred_and_limited(pictures: np.ndarray) -> None:
    latents = fit_basis(pictures, 24).encode(pictures)
    assert latents.mean((0, 2, 3)).abs().max() < 1e-3
    assert latents.std((0, 2, 3)).max() < MAX_LATENT_STD * 1.01


def test_all_components_restore_the_picture(pictures: np.ndarray) -> None:
    model = BlockAutoencoder(192)
    install_basis(model, fit_basis(pictures, 192))
    images = as_tensor(pictures)
    with torch.no_grad():
        assert (model.decode(model.encode(images)) - images).abs().max() < 2e-3


def test_fewer_components_lose_more(pictures: np.ndarray) -> None:
    images, errors = as_tensor(pictures), []
    for count in (3, 12, 48):
        model = BlockAutoencoder(count)
        install_basis(model, fit_basis(pictures, count))
        with torch.no_grad():
            errors.append(float((model.decode(model.encode(images)) - images).square().mean()))
    assert errors[0] > errors[1] > errors[2] > 0


def test_the_border_distance_sees_steps_between_blocks_alone() -> None:
    targets = torch.zeros(1, 3, 16, 24)
    inside, shifted = targets.clone(), targets.clone()
    inside[..., 2:6, 2:6] = 1
    shifted[..., 8:16] = 1
    assert border_distance(targets, targets) == border_distance(inside, targets) == 0
    assert border_distance(shifted, targets) == pytest.approx(0.5)  # across: all, down: none


def test_noise_of_the_decoder_is_drawn_for_each_picture() -> None:
    latents = torch.zeros(200, 24, 2, 2)
    torch.manual_seed(0)
    levels = noise_levels(latents, AutoencoderRecipe(latent_noise=(0.1, 0.3)))
    assert levels.shape == (200, 1, 1, 1)
    assert 0.1 <= levels.min() < 0.12 and 0.28 < levels.max() <= 0.3
    same = noise_levels(latents, AutoencoderRecipe(latent_noise=(0.2, 0.2)))
    torch.testing.assert_close(same, torch.full_like(same, 0.2))
