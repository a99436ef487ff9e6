"""DDIM inversion on models with a closed form."""

from __future__ import annotations

import itertools

import pytest
import torch

from subject_diffusion_core.hifi_tuner import euler_step, invert_ddim

SIGMAS = torch.tensor([8.0, 3.0, 1.0, 0.4, 0.0], dtype=torch.float64)
LATENT = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
NOISE = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def resampled(predict, trajectory):
    x = trajectory[0]
    for sigma, following in itertools.pairwise(SIGMAS):
        x = euler_step(x, predict(x, sigma), sigma, following)
    return x


@pytest.mark.parametrize("timestep", ["target", "source"])
@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_constant_noise_is_exact(timestep: str, iterations: int) -> None:
    def predict(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return x - sigma * NOISE

    trajectory = invert_ddim(predict, LATENT, SIGMAS, iterations, timestep)
    assert trajectory.shape == (5, 2, 3, 4, 5)
    assert torch.equal(trajectory[-1], LATENT)
    wanted = LATENT + SIGMAS.view(-1, 1, 1, 1, 1) * NOISE
    assert torch.allclose(trajectory, wanted, atol=1e-12)
    assert torch.allclose(resampled(predict, trajectory), LATENT, atol=1e-12)


def linear(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Noise a * x: a step is x' = x / (1 - (sigma' - sigma) a)."""
    return x - sigma * 0.05 * x


def test_iterations_solve_linear_noise() -> None:
    wanted = [LATENT]
    for sigma, following in itertools.pairwise(SIGMAS.flip(0)):
        wanted.append(wanted[-1] / (1 - (following - sigma) * 0.05))
    errors = [
        float((invert_ddim(linear, LATENT, SIGMAS, count) - torch.stack(wanted[::-1])).norm())
        for count in (0, 1, 3, 40)
    ]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-12
    trajectory = invert_ddim(linear, LATENT, SIGMAS, 40)
    assert torch.allclose(resampled(linear, trajectory), LATENT, atol=1e-12)


def test_what_the_model_is_asked() -> None:
    """At the target's level with the target's scale, or as printed; never at 0."""
    calls: list[tuple[float, float]] = []

    def predict(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        calls.append((float(x[0, 0, 0, 0]), float(sigma)))
        return linear(x, sigma)

    invert_ddim(predict, LATENT, SIGMAS, 0, "target")
    assert [sigma for _, sigma in calls] == [0.4, 1.0, 3.0, 8.0]
    assert calls[0][0] == pytest.approx(float(LATENT[0, 0, 0, 0]) * (1 + 0.4**2) ** 0.5)
    calls.clear()
    invert_ddim(predict, LATENT, SIGMAS, 0, "source")
    assert [sigma for _, sigma in calls] == [0.4, 0.4, 1.0, 3.0]
    calls.clear()
    invert_ddim(predict, LATENT, SIGMAS, 2)
    assert [sigma for _, sigma in calls] == [0.4] * 3 + [1.0] * 3 + [3.0] * 3 + [8.0] * 3


def test_bad_arguments() -> None:
    with pytest.raises(
        ValueError, match="sigmas: expected two or more noise levels that fall to 0"
    ):
        invert_ddim(linear, LATENT, SIGMAS[:-1])
    with pytest.raises(ValueError, match="sigmas"):
        invert_ddim(linear, LATENT, SIGMAS.flip(0))
    with pytest.raises(ValueError, match="num_iterations, timestep: expected"):
        invert_ddim(linear, LATENT, SIGMAS, -1)
    with pytest.raises(ValueError, match="num_iterations, timestep: expected"):
        invert_ddim(linear, LATENT, SIGMAS, 1, "middle")
