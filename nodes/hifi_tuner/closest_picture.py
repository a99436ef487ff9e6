# Shapes: V pictures of a subject, H, W size of the generated picture in pixels, E of an embedding.
"""Which of a subject's pictures is most like the subject in the generated picture."""

from __future__ import annotations

import comfy.model_management
import torch
from torch.nn import functional as F

from ...subject_diffusion_core.pictures import prepare_reference
from ..host.comfy_types import ClipVision
from ..subjects.subject import Subject

CROP_SIDE = 224


def similarities(
    subject: Subject, clip_vision: ClipVision, generated: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """Cosine of the image encoder between each picture of the subject and the generated one, both
    cut out on white and cropped to the subject.

    Args:
        subject: with masks.
        generated: (H, W, 3) in 0..1.
        target: (H, W), 1 = where the subject stands in it.

    Returns:
        (V,) in -1..1.
    """
    assert subject.masks is not None
    views = [
        _embed(clip_vision, picture, mask)
        for picture, mask in zip(subject.images, subject.masks, strict=True)
    ]
    own = _embed(clip_vision, generated, target)
    return F.cosine_similarity(torch.stack(views), own[None])


def _embed(clip_vision: ClipVision, picture: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(E,)"""
    comfy.model_management.throw_exception_if_processing_interrupted()
    crop = prepare_reference(picture.float().cpu(), mask.float().cpu(), CROP_SIDE)
    output = clip_vision.encode_image(crop.movedim(0, -1)[None], crop=True)
    embeds: torch.Tensor = output.image_embeds
    return embeds[0].float().cpu()
