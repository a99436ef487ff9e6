"""The decoder's two stages: what they draw, resuming, and what the second one learns from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_tables import batch_maker, small_recipe

from subject_diffusion_core.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny_vision import TinyVision
from training.sampling import TinySampler
from training.tiny.block_pca import fit_basis, install_basis
from training.tiny.build import build_model
from training.tiny.decoder import (
    CropPairs,
    DecoderStage,
    Pairs,
    SampledPairs,
    color_distance,
    train_decoder,
)
from training.tiny.recipe import AutoencoderRecipe
from training.tiny.sampled_latents import SampledLatents, every_condition_kept, sample_latents

RECIPE = AutoencoderRecipe(
    crop=32, batch_size=4, steps=4, warmup_steps=1, checkpoint_every=2, latent_noise=0.0
)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3))
    return coarse.repeat(4, 1).repeat(4, 2).astype(np.uint8)


@pytest.fixture
def autoencoder(images: np.ndarray) -> BlockAutoencoder:
    torch.manual_seed(0)
    model = BlockAutoencoder(24, width=16, depth=1, fine_width=8, fine_depth=1)
    install_basis(model, fit_basis(images, 24))
    return model


def sampled(autoencoder: BlockAutoencoder, images: np.ndarray) -> SampledLatents:
    """The pictures' own latents, in another order."""
    indices = np.array([4, 0, 5, 2])
    pictures = torch.from_numpy(images[indices]).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = autoencoder.encode(pictures).numpy()
    return SampledLatents(latents=latents, indices=indices)


def assert_pairs_match(autoencoder: BlockAutoencoder, pairs: Pairs) -> None:
    latents, pictures = pairs
    assert latents.shape == (4, 24, 4, 4) and pictures.shape == (4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(latents, autoencoder.encode(pictures), atol=1e-4, rtol=1e-4)


def test_crops_go_with_their_latents(autoencoder: BlockAutoencoder, images: np.ndarray) -> None:
    draw = CropPairs(autoencoder, images, RECIPE)
    assert_pairs_match(autoencoder, draw(3))
    assert all(torch.equal(a, b) for a, b in zip(draw(3), draw(3), strict=True))
    assert not torch.equal(draw(3)[1], draw(4)[1])


def test_noise_is_added_to_latents_only(autoencoder: BlockAutoencoder, images: np.ndarray) -> None:
    clean = CropPairs(autoencoder, images, RECIPE)(0)
    noisy = CropPairs(autoencoder, images, replace(RECIPE, latent_noise=0.2))(0)
    assert torch.equal(clean[1], noisy[1])
    assert 0.15 < float((noisy[0] - clean[0]).std()) < 0.25


def test_sampled_latents_go_with_the_pictures_they_began_from(
    autoencoder: BlockAutoencoder, images: np.ndarray
) -> None:
    own = CropPairs(autoencoder, images, RECIPE)
    draw = SampledPairs(own, sampled(autoencoder, images), images)
    for step in range(3):
        assert_pairs_match(autoencoder, draw(step))
        assert torch.equal(draw(step)[1][:2], own(step)[1][:2])


def test_resumed_training_equals_the_uninterrupted_one(
    autoencoder: BlockAutoencoder, images: np.ndarray, tmp_path: Path
) -> None:
    start = {name: tensor.clone() for name, tensor in autoencoder.state_dict().items()}
    torch.manual_seed(1)
    vision = TinyVision().eval().requires_grad_(False)

    def train(folder: Path, *, killed_at: int | None = None) -> dict[str, torch.Tensor]:
        autoencoder.load_state_dict(start)
        own = CropPairs(autoencoder, images, RECIPE)

        def draw(step: int) -> Pairs:
            if step == killed_at:
                raise KeyboardInterrupt
            return own(step)

        stage = DecoderStage(name="autoencoder", steps=4, learning_rate=1e-3, draw=draw)
        path = train_decoder(autoencoder, stage, folder, RECIPE, vision, torch.device("cpu"))
        return torch.load(path, weights_only=True)["model"]

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", killed_at=3)
    resumed = train(tmp_path / "cut")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert torch.equal(whole["analysis.weight"], start["analysis.weight"])
    assert not torch.equal(whole["synthesis.weight"], start["synthesis.weight"])


def test_colour_distance_ignores_what_a_block_averages_out() -> None:
    stripes = torch.ones(1, 3, 16, 16)
    stripes[..., ::2] = -1
    assert float(color_distance(stripes, torch.zeros_like(stripes))) == 0
    assert float(color_distance(stripes + 0.5, stripes)) == pytest.approx(0.25)


def test_samples_stay_near_their_pictures_and_are_made_once(tmp_path: Path) -> None:
    recipe = small_recipe()
    batches = batch_maker(replace(recipe, joint=every_condition_kept(recipe.joint)))
    model = build_model(recipe, batches.vocabulary, seed=5).requires_grad_(False)
    settings = replace(RECIPE, num_sampled=8, first_sampling_steps=(19, 2))
    sampler = TinySampler(
        model, BlockAutoencoder(24), TinyVision(), batches.vocabulary, num_slots=2
    )
    made = sample_latents(sampler, batches, settings, tmp_path / "samples.npz")
    assert made.latents.shape == (8, 24, 16, 16) and np.isfinite(made.latents).all()
    assert (made.indices == np.concatenate([batches.draw(i).indices for i in (0, 1)])).all()
    began = batches.composites.latents[made.indices].astype(np.float32)
    late, early = np.square(made.latents - began).reshape(2, -1).mean(1)
    assert late < early / 2
    again = sample_latents(sampler, batches, settings, tmp_path / "samples.npz")
    assert (again.latents == made.latents).all()
