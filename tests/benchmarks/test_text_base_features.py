"""The loss in features of `python -m benchmarks.text_base`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.text_base.feature_loss import PICTURES, FeatureLoss, predicted_latents
from training.methods.objective import noise_scheduler
from training.toy.text.start import read_start

START = Path(__file__).resolve().parents[2] / "weights" / "tiny_base.safetensors"


def test_the_right_velocity_predicts_the_latents_and_an_error_moves_them_by_the_noises_share() -> (
    None
):
    scheduler = noise_scheduler("v_prediction")
    generator = torch.Generator().manual_seed(0)
    latents, noise, error = (torch.randn(3, 2, 4, 4, generator=generator) for _ in range(3))
    steps = torch.tensor([10, 500, 990])
    alphas = scheduler.alphas_cumprod[steps]
    velocity = scheduler.get_velocity(latents, noise, steps)  # type: ignore[arg-type]
    noisy = scheduler.add_noise(latents, noise, steps)  # type: ignore[arg-type]
    predicted = velocity + error
    wide = alphas[:, None, None, None]
    torch.testing.assert_close(
        predicted_latents(latents, predicted, velocity, alphas),
        wide.sqrt() * noisy - (1 - wide).sqrt() * predicted,
    )
    assert torch.equal(predicted_latents(latents, velocity, velocity, alphas), latents)


def test_features_differ_where_the_prediction_does_and_of_the_first_pictures_alone() -> None:
    base = read_start(START)
    loss = FeatureLoss(base, noise_scheduler("v_prediction").alphas_cumprod)
    generator = torch.Generator().manual_seed(1)
    shape = (PICTURES + 1, base.latent_channels, 4, 4)
    latents, target, error = (torch.randn(shape, generator=generator) for _ in range(3))
    steps = torch.full((len(latents),), 400)
    assert loss(latents, target, target, steps).item() == pytest.approx(0, abs=1e-6)
    near = loss(latents, target + 0.1 * error, target, steps)
    wrong = (target + error).requires_grad_(True)
    far = loss(latents, wrong, target, steps)
    assert 0 < near < far
    far.backward()
    assert wrong.grad is not None
    moved = wrong.grad.flatten(1).norm(dim=1)
    assert bool((moved[:PICTURES] > 0).all()) and moved[PICTURES:].eq(0).all()
    assert all(parameter.grad is None for parameter in loss.vae.parameters())
