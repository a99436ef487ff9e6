# Shapes: B samples, C channels, h, w size of a latent, L vectors of a text, d their width.
"""Reference-guided generation: the parts of HiFi Tuner algorithm 2 that are not sampling."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import require_shape
from .loss_scale import FIRST_LOSS_SCALE, scaled_gradient


def guided_steps(num_steps: int, start: float, end: float) -> range:
    """The steps, from 0 on, that are guided: t_s >= t >= t_e of algorithm 2, both included.

    Args:
        start, end: in 0..1 of the sampling; 0.2 and 0.8 are t_s = 40 and t_e = 10 of 50.

    >>> guided_steps(50, 0.2, 0.8)
    range(10, 41)
    >>> len(guided_steps(50, 0.8, 0.2))
    0
    """
    first = round(start * num_steps)
    last = min(round(end * num_steps), num_steps - 1)
    return range(first, max(first, last + 1) if start <= end else first)


def inside_outside(inside: torch.Tensor, outside: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`inside` where the mask (h, w) bool is True, else `outside`: both (B, C, h, w)."""
    require_shape("mask", mask, tuple(outside.shape[-2:]), "Pass the mask at the latent's size")
    return torch.where(mask, inside, outside)


def optimize_null_text(
    next_latent: Callable[[torch.Tensor], torch.Tensor],
    null_text: torch.Tensor,
    reference: torch.Tensor,
    mask: torch.Tensor,
    num_updates: int,
    learning_rate: float = 1e-2,
    stop_below: float = 0.0,
) -> tuple[torch.Tensor, list[float]]:
    """J updates of phi_h by eq. 10: the next latent shall be the reference's inside the mask.

    Each sample has a null text of its own, so a batch is optimised as its samples are alone. Adam
    begins anew at every call.

    Args:
        next_latent: null text (B, L, d) -> x_{t-1} (B, C, h, w), with a gradient to the null text.
        null_text: (B, L, d), where to begin.
        reference: (1 or B, C, h, w), x*_{t-1}.
        mask: (h, w) bool, True = compare here.
        num_updates: J, or fewer where the loss falls below `stop_below` before.

    Returns:
        The null text (B, L, d) float32, and the loss before each update: the mean of the squares.
    """
    require_shape("mask", mask, tuple(reference.shape[-2:]), "Pass the mask at the latent's size")
    phi = null_text.detach().float().clone().requires_grad_()
    optimizer = torch.optim.Adam([phi], lr=learning_rate, foreach=False)
    count = int(mask.sum()) * reference.shape[1]
    scale, losses = FIRST_LOSS_SCALE, []
    for _ in range(num_updates):
        error = (next_latent(phi) - reference).square().masked_fill(~mask, 0.0)
        total = error.sum()
        losses.append(float(total.detach()) / (count * len(error)))
        if losses[-1] < stop_below:
            break
        gradient, scale = scaled_gradient(total, phi, scale)
        phi.grad = gradient / count
        optimizer.step()
    return phi.detach(), losses
