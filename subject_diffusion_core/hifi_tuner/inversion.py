# Shapes: S noise levels, B samples, C channels, h, w size of a latent.
"""DDIM inversion: the noise, and all steps to it, of which DDIM makes a given latent.

Latents are in the variance-exploding form, x = latent + sigma * noise, where a step of DDIM is a
step of Euler's method.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal, get_args

import torch

Timestep = Literal["target", "source"]

# (latent (B, C, h, w), sigma, a tensor of one number) -> the clean latent (B, C, h, w).
PredictDenoised = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def euler_step(
    latent: torch.Tensor, denoised: torch.Tensor, sigma: torch.Tensor, next_sigma: torch.Tensor
) -> torch.Tensor:
    """HiFi Tuner eq. 1, from noise level sigma to the next one."""
    return latent + (latent - denoised) / sigma * (next_sigma - sigma)


def invert_ddim(
    predict: PredictDenoised,
    latent: torch.Tensor,
    sigmas: torch.Tensor,
    num_iterations: int = 1,
    timestep: Timestep = "target",
) -> torch.Tensor:
    """F^-1 of HiFi Tuner eq. 3, made exact by fixed-point iterations.

    A step of the inversion needs the noise that the model sees in a latent it does not know yet.
    The first guess takes the noise that it sees in the latent before, scaled to the next noise
    level; each iteration asks for the noise in the last guess.

    Args:
        latent: (B, C, h, w), clean.
        sigmas: (S,), falling to 0, as samplers take them.
        num_iterations: fixed-point iterations per step.
        timestep: at which end of a step the first guess asks the model: "source" is eq. 3 as
            printed; its first step, from sigma 0, asks at the target in either case.

    Returns:
        (S, B, C, h, w): the latent at each of `sigmas`; the last is `latent` itself.

    >>> sigmas = torch.tensor([2.0, 1.0, 0.0])
    >>> invert_ddim(lambda x, sigma: torch.zeros_like(x), torch.ones(1, 1, 1, 1), sigmas).shape
    torch.Size([3, 1, 1, 1, 1])
    """
    _require_sigmas(sigmas)
    if num_iterations < 0 or timestep not in get_args(Timestep):
        raise ValueError(
            "num_iterations, timestep: expected 0 or more and target or source, got "
            f"{num_iterations} and '{timestep}'. 1 and target are usual."
        )
    trajectory = [latent]
    rising = sigmas.flip(0).to(latent)
    for sigma, next_sigma in itertools.pairwise(rising):
        x = trajectory[-1]
        noise = _first_guess(predict, x, sigma, next_sigma, timestep)
        following = x + (next_sigma - sigma) * noise
        for _ in range(num_iterations):
            noise = (following - predict(following, next_sigma)) / next_sigma
            following = x + (next_sigma - sigma) * noise
        trajectory.append(following)
    return torch.stack(trajectory[::-1])


def _first_guess(
    predict: PredictDenoised,
    x: torch.Tensor,
    sigma: torch.Tensor,
    next_sigma: torch.Tensor,
    timestep: Timestep,
) -> torch.Tensor:
    """The noise that the model sees in x, told the noise level at one end of the step."""
    if timestep == "source" and sigma > 0:
        return (x - predict(x, sigma)) / sigma
    # what the model gets is x / sqrt(1 + sigma^2): the same numbers at the other level
    scaled = x * ((1 + next_sigma.square()) / (1 + sigma.square())).sqrt()
    return (scaled - predict(scaled, next_sigma)) / next_sigma


def _require_sigmas(sigmas: torch.Tensor) -> None:
    falls = sigmas.ndim == 1 and len(sigmas) > 1 and bool((sigmas.diff() < 0).all())
    if not falls or float(sigmas[-1]) != 0.0:
        raise ValueError(
            "sigmas: expected two or more noise levels that fall to 0, got "
            f"{[round(float(sigma), 3) for sigma in sigmas.flatten()[:5]]} and so on. Connect all "
            "sigmas of a scheduler such as ddim_uniform, or the low_sigmas of SplitSigmas."
        )
