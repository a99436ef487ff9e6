# Shapes: H, W size of the picture, S reference size.
"""The reference image: the subject cut out on white, cropped, padded to a square, resized."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .errors import ShapeError, require_shape
from .pictures import SUBJECT_THRESHOLD, is_subject


def prepare_reference(
    picture: torch.Tensor, mask: torch.Tensor, reference_size: int
) -> torch.Tensor:
    """Cut the subject out on white, crop to its mask, pad to a white square, resize with
    antialiasing.

    Args:
        picture: (H, W, 3) RGB in 0..1.
        mask: (H, W) in 0..1, 1 = subject; soft edges blend with white, the crop holds all pixels of
            0.5 or more.
        reference_size: S, side of the result in pixels (224 for CLIP, 128 for the tiny model).

    Returns:
        (3, S, S) in 0..1, before the encoder's own normalisation.

    >>> prepare_reference(torch.zeros(6, 4, 3), torch.ones(6, 4), 8).shape
    torch.Size([3, 8, 8])
    """
    require_shape("picture", picture, ("H", "W", 3), "Pass one RGB picture")
    if tuple(mask.shape) != tuple(picture.shape[:2]):
        raise ShapeError(
            f"mask: expected shape {tuple(picture.shape[:2])} as the picture, got "
            f"{tuple(mask.shape)}. Use a mask made from the same picture."
        )
    top, bottom, left, right = _subject_bounds(mask)
    alpha = mask.to(picture)[top:bottom, left:right, None].clamp(0, 1)
    cutout = picture[top:bottom, left:right] * alpha + (1 - alpha)
    square = pad_to_white_square(cutout.permute(2, 0, 1))
    resized = F.interpolate(
        square.unsqueeze(0), size=(reference_size, reference_size), mode="bicubic", antialias=True
    )
    return resized[0].clamp(0, 1)  # bicubic overshoots at edges


def pad_to_white_square(picture: torch.Tensor) -> torch.Tensor:
    """(3, H, W) in 0..1 -> (3, max(H, W), max(H, W)), centred on white.

    >>> pad_to_white_square(torch.zeros(1, 1, 3))[0, :, 0]
    tensor([1., 0., 1.])
    """
    height, width = picture.shape[-2:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    margins = (left, side - width - left, top, side - height - top)
    return F.pad(picture, margins, value=1.0)


def _subject_bounds(mask: torch.Tensor) -> tuple[int, int, int, int]:
    """First and (exclusive) last row and column of the subject: top, bottom, left, right."""
    inside = is_subject(mask)
    rows, columns = inside.any(dim=1).nonzero(), inside.any(dim=0).nonzero()
    if len(rows) == 0:
        highest = float(mask.max()) if mask.numel() else 0.0
        raise ValueError(
            f"mask: expected a subject (values of {SUBJECT_THRESHOLD} or more), got at most "
            f"{highest:g}. Paint the subject in the mask, or leave the mask out."
        )
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
