# Shapes: B samples, C channels, h, w size of a latent, H, W of a picture, n vectors of width d.
"""The loss of a subject embedding, HiFi Tuner eq. 5 and 6."""

from __future__ import annotations

import torch

from ..area_resize import area_resize
from ..errors import require_shape


def latent_mask(mask: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """M at the latent's size: (H, W) in 0..1 -> (h, w) bool, where more than half is subject."""
    require_shape("mask", mask, ("H", "W"), "Pass the mask of one picture")
    return area_resize(mask.float(), height, width) > 0.5


def noise_error(denoised: torch.Tensor, latent: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """eps_theta - eps, of a model that predicts the clean latent of x = latent + sigma * eps.

    Args:
        denoised: (B, C, h, w), what the model says.
        latent: (C, h, w) or (B, C, h, w), what is right.
        sigma: (B,) above 0.
    """
    return (latent - denoised) / sigma.view(-1, 1, 1, 1)


def masked_sum(error: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, int]:
    """|| M * (eps_theta - eps) ||^2 of eq. 5, and over how many numbers it sums.

    The loss is their quotient, a mean, so that w_s weighs the same whatever the subject's size.

    Args:
        error: (B, C, h, w).
        mask: (h, w) bool, True = subject; None = everywhere.
    """
    if mask is None:
        return error.square().sum(), error.numel()
    require_shape("mask", mask, error.shape[-2:], "Pass the mask at the latent's size")
    count = int(mask.sum()) * error.shape[0] * error.shape[1]
    if count == 0:
        raise ValueError(
            "mask: expected the subject in at least one cell of the latent, got none. Use a larger "
            "picture of it, or cut it closer."
        )
    return error.square().masked_fill(~mask, 0.0).sum(), count


def distance_to_null(vectors: torch.Tensor, null_vectors: torch.Tensor) -> torch.Tensor:
    """The mean of (c_s - phi_s)^2, which eq. 6 adds times w_s: both (n, d)."""
    require_shape("null_vectors", null_vectors, tuple(vectors.shape), "Pass as many as are tuned")
    return (vectors - null_vectors).square().mean()
