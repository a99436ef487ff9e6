# Shapes: H, W size of a picture in pixels.
"""A subject's picture as a VAE takes it, and what it shows in words."""

from __future__ import annotations

import torch

from ...subject_diffusion_core.area_resize import area_resize
from .boxes import mask_edges
from .subject import Subject

# Of the subject's longer side: some surroundings, as the UNet knows no pictures without.
MARGIN = 0.1
LABEL = "<label>"


def prepare_picture(
    image: torch.Tensor, mask: torch.Tensor | None, reference_size: int, multiple: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Cut a picture to the subject and its margin, and resize it for the VAE.

    Args:
        image: (H, W, 3) in 0..1.
        mask: (H, W) in 0..1, 1 = subject; None = all of the picture.
        reference_size: longest side of the result; smaller pictures stay as they are; 0 = no limit.
        multiple: of what the sides must be, at least one of it.

    Returns:
        Picture and mask of the same size.
    """
    if mask is not None:
        mask = mask.float().cpu()
        part = _with_margin(mask)
        image, mask = image[part], mask[part]
    height, width = image.shape[:2]
    scale = min(1.0, reference_size / max(height, width)) if reference_size > 0 else 1.0
    rows, columns = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    if (rows, columns) != (height, width):
        image = area_resize(image.movedim(-1, 0), rows, columns).movedim(0, -1)
        mask = None if mask is None else area_resize(mask, rows, columns)
    return image.clamp(0, 1), None if mask is None else mask.clamp(0, 1)


def caption_of(subject: Subject, caption: str) -> str:
    """The caption of a subject's pictures.

    >>> from types import SimpleNamespace
    >>> caption_of(SimpleNamespace(label="red bag"), "a photo of a <label>")
    'a photo of a red bag'
    """
    return caption.replace(LABEL, subject.label)


def _with_margin(mask: torch.Tensor) -> tuple[slice, slice]:
    edges = mask_edges(mask)
    assert edges is not None  # Subject refuses empty masks
    left, top, right, bottom = edges
    margin = round(MARGIN * max(right - left, bottom - top))
    return (
        slice(max(top - margin, 0), bottom + margin),
        slice(max(left - margin, 0), right + margin),
    )
