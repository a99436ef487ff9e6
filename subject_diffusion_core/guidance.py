"""Three-branch classifier-free guidance."""

from __future__ import annotations

from collections.abc import Callable

import torch

PlainGuidance = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def classifier_free_guidance(
    pred_cond: torch.Tensor, pred_uncond: torch.Tensor, guidance_scale: float
) -> torch.Tensor:
    """Plain guidance with two branches: e = e_un + s (e_cond - e_un).

    >>> classifier_free_guidance(torch.tensor(2.0), torch.tensor(1.0), 1.5)
    tensor(2.5000)
    """
    return pred_uncond + guidance_scale * (pred_cond - pred_uncond)


def three_branch_guidance(
    pred_text: torch.Tensor,
    pred_image: torch.Tensor,
    pred_uncond: torch.Tensor,
    text_guidance_scale: float,
    image_guidance_scale: float,
    *,
    image_guidance: PlainGuidance = classifier_free_guidance,
) -> torch.Tensor:
    """Combine the three branches: e = e_un + s_i (e_img - e_un) + s_t (e_text - e_img).

    The three weights sum to 1, so the formula is exact on noise, velocity and denoised predictions
    alike.

    Args:
        pred_text: prediction with fused text, grounding tokens and location mask.
        pred_image: prediction with empty (or negative) text, grounding tokens and location mask.
        pred_uncond: prediction with empty (or negative) text, null tokens and a zero mask.
        text_guidance_scale: s_t (3 in the paper).
        image_guidance_scale: s_i (1.5 in the paper).
        image_guidance: computes e_un + s_i (e_img - e_un) of e_img, e_un and s_i; a host may have
            its own, in which others take part.

    Returns:
        The guided prediction, in the shape of the three.

    >>> one = torch.ones(1)
    >>> three_branch_guidance(4 * one, 2 * one, 1 * one, 3.0, 1.5)
    tensor([8.5000])
    """
    guided = image_guidance(pred_image, pred_uncond, image_guidance_scale)
    return guided + text_guidance_scale * (pred_text - pred_image)
