"""Gradients of a sum through a model of half precision, where small ones would vanish."""

from __future__ import annotations

import torch

FIRST_LOSS_SCALE = 2.0**10
SMALLEST_LOSS_SCALE = 2.0**-14


def scaled_gradient(
    total: torch.Tensor, leaf: torch.Tensor, scale: float
) -> tuple[torch.Tensor, float]:
    """The gradient of `total` to `leaf`, computed on `total * scale`.

    Where that overflows, the scale is halved; the one that worked is for the next call.

    >>> leaf = torch.tensor([3.0], requires_grad=True)
    >>> scaled_gradient(leaf.square().sum(), leaf, 8.0)
    (tensor([6.]), 8.0)
    """
    if not bool(total.isfinite()):
        raise ValueError(
            "model: expected finite numbers, got NaN or infinity from it. Load it in bf16 or fp32, "
            "and look at the subject's picture."
        )
    while scale >= SMALLEST_LOSS_SCALE:
        (gradient,) = torch.autograd.grad(total * scale, [leaf], retain_graph=True)
        if bool(gradient.isfinite().all()):
            return gradient / scale, scale
        scale /= 2
    raise ValueError(
        "model: expected finite gradients, got NaN or infinity. Load it in bf16 or fp32."
    )
