"""Guidance towards a reference and towards a text (DreamTuner eq. 4 to 6)."""

from __future__ import annotations

import torch

from ..guidance import PlainGuidance, classifier_free_guidance


def interleaved_guidance(
    pred_cond_ref: torch.Tensor,
    pred_cond: torch.Tensor | None,
    pred_uncond_ref: torch.Tensor | None,
    reference_guidance_scale: float,
    text_guidance_scale: float,
    use_reference: bool,
) -> torch.Tensor:
    """One step of DreamTuner eq. 6: with the reference (eq. 4) or with the text (eq. 5).

    eq. 4: e = e_c + w_r (e_cr - e_c); eq. 5: e = e_ur + w_c (e_cr - e_ur). All in one shape, noise
    or denoised.

    Args:
        pred_cond_ref: e_cr, text and reference.
        pred_cond: e_c, the text without the reference; None if `use_reference` is False.
        pred_uncond_ref: e_ur, the negative text with the reference; None if `use_reference`.
        use_reference: whether this step's draw lambda fell below p_r.

    >>> one = torch.ones(1)
    >>> interleaved_guidance(3 * one, one, None, 2.0, 7.5, use_reference=True)
    tensor([5.])
    """
    other = pred_cond if use_reference else pred_uncond_ref
    if other is None:
        name = "pred_cond" if use_reference else "pred_uncond_ref"
        raise ValueError(
            f"{name}: expected the prediction that this step's guidance starts from, got None. "
            "Compute that branch."
        )
    scale = reference_guidance_scale if use_reference else text_guidance_scale
    return classifier_free_guidance(pred_cond_ref, other, scale)


def expected_guidance(
    pred_cond_ref: torch.Tensor,
    pred_cond: torch.Tensor,
    pred_uncond_ref: torch.Tensor,
    reference_guidance_scale: float,
    text_guidance_scale: float,
    reference_probability: float,
    *,
    reference_guidance: PlainGuidance = classifier_free_guidance,
    text_guidance: PlainGuidance = classifier_free_guidance,
) -> torch.Tensor:
    """The mean of `interleaved_guidance` over its draws: p_r eq. 4 + (1 - p_r) eq. 5.

    Args:
        pred_cond_ref, pred_cond, pred_uncond_ref: as there.
        reference_probability: p_r, 0..1.
        reference_guidance, text_guidance: compute eq. 4 and eq. 5; a host may have its own, in
            which others take part.

    >>> one = torch.ones(1)
    >>> expected_guidance(3 * one, one, 2 * one, 2.0, 4.0, 0.5)
    tensor([5.5000])
    """
    towards_reference = reference_guidance(pred_cond_ref, pred_cond, reference_guidance_scale)
    towards_text = text_guidance(pred_cond_ref, pred_uncond_ref, text_guidance_scale)
    return reference_probability * towards_reference + (1 - reference_probability) * towards_text
