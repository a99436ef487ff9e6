# Shapes: B pictures or masks, H, W their size, S reference size.
"""Pictures and masks of any shape, type and range that nodes give, as the methods read them; and
the reference image made of them."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .errors import ShapeError, require_finite_tensor, require_shape
from .schema import COLOUR, PICTURE_SIDE, printed

SOURCE = "the nodes before it"
# A mask counts from here on; where it does, there is the subject.
SUBJECT_THRESHOLD = 0.5


def is_subject(mask: torch.Tensor) -> torch.Tensor:
    """Where a mask in 0..1 counts, as bool of the same shape: 0.5 and more.

    >>> is_subject(torch.tensor([0.4, 0.5, 1.0]))
    tensor([False,  True,  True])
    """
    return mask >= SUBJECT_THRESHOLD


def read_pictures(argument: str, images: object) -> torch.Tensor:
    """IMAGE of any node -> (B, H, W, 3), or (B, H, W, 4) with alpha.

    One picture (H, W, C) is a batch of one; grey becomes RGB; integers of 8 bits become 0..1. What
    is right already is returned as it is.

    >>> read_pictures("image", torch.zeros(2, 8, 9, 1)).shape
    torch.Size([2, 8, 9, 3])
    """
    if not isinstance(images, torch.Tensor):
        raise ValueError(
            f"{argument}: expected pictures, got {printed(images)}. Connect an IMAGE output."
        )
    shape = tuple(images.shape)
    if len(shape) == 3 and shape[-1] in (3, 4):
        images = images.unsqueeze(0)
    if images.ndim != 4 or images.shape[-1] not in (1, 2, 3, 4):
        hint = " Channels come last." if images.ndim == 4 and shape[1] in (1, 3, 4) else ""
        raise ValueError(
            f"{argument}: expected pictures of shape (pictures, height, width, 3 or 4), got "
            f"{shape}.{hint} Connect an IMAGE output."
        )
    if images.shape[0] == 0:
        raise ValueError(
            f"{argument}: expected one picture or more, got an empty batch. Connect a picture."
        )
    _require_sides(argument, images.shape[1:3])
    images = _as_fractions(argument, images)
    _require_colours(argument, images)
    if images.shape[-1] in (1, 2):
        grey, alpha = images[..., :1], images[..., 1:]
        images = torch.cat((grey, grey, grey, alpha), dim=-1)
    return images


def read_masks(argument: str, masks: object) -> torch.Tensor:
    """MASK of any node -> (B, H, W) in 0..1.

    One mask (H, W) is a batch of one; a channel of its own, (B, 1, H, W) or (B, H, W, 1), goes;
    bool and integers of 8 bits become 0 and 1, or 0..1. What is right already is returned as it
    is.

    >>> read_masks("mask", torch.ones(8, 9, dtype=torch.bool)).shape
    torch.Size([1, 8, 9])
    """
    if not isinstance(masks, torch.Tensor):
        raise ValueError(f"{argument}: expected a mask, got {printed(masks)}. Connect a MASK.")
    shape = tuple(masks.shape)
    if masks.ndim == 2:
        masks = masks.unsqueeze(0)
    if masks.ndim == 4 and 1 in (shape[1], shape[-1]):
        masks = masks.squeeze(1 if shape[1] == 1 else -1)
    if masks.ndim != 3:
        raise ValueError(
            f"{argument}: expected masks of shape (masks, height, width), got {shape}. Connect a "
            "MASK output, for example through Convert Image to Mask."
        )
    if masks.shape[0] == 0:
        raise ValueError(f"{argument}: expected one mask or more, got none. Connect a mask.")
    _require_sides(argument, masks.shape[1:3])
    masks = _as_fractions(argument, masks)
    require_finite_tensor(argument, masks, SOURCE)
    low, high = float(masks.min()), float(masks.max())
    if high > 2.0 and masks.dtype.is_floating_point:
        raise ValueError(
            f"{argument}: expected numbers from 0 to 1, got up to {high:g}. Divide it by 255."
        )
    return masks.clamp(0.0, 1.0) if low < 0.0 or high > 1.0 else masks


def marks_background(mask: torch.Tensor) -> bool:
    """Whether a mask (H, W) looks like that of a background: it touches all four edges, along most
    of them, and has a hole.

    >>> mask = torch.ones(8, 8)
    >>> mask[2:6, 2:6] = 0
    >>> marks_background(mask), marks_background(1 - mask)
    (True, False)
    """
    inside = is_subject(mask)
    edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
    touches_all = all(bool(edge.any()) for edge in edges)
    along = torch.cat(edges).float().mean()
    return touches_all and bool(along > 0.5) and not bool(inside.all())


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


def _require_sides(argument: str, sides: torch.Size) -> None:
    for side in sides:
        PICTURE_SIDE.require(f"{argument}'s size", side, "Resize it")


def _as_fractions(argument: str, values: torch.Tensor) -> torch.Tensor:
    """Floating point; bool and uint8 are converted, other types refused."""
    if values.dtype.is_floating_point:
        return values
    if values.dtype == torch.bool:
        return values.float()
    if values.dtype == torch.uint8:
        return values.float() / (255.0 if bool((values > 1).any()) else 1.0)
    raise ValueError(
        f"{argument}: expected floating-point numbers from 0 to 1, got {values.dtype}. Convert it "
        "before it is connected."
    )


def _require_colours(argument: str, images: torch.Tensor) -> None:
    require_finite_tensor(argument, images, SOURCE)
    low, high = float(images.min()), float(images.max())
    if not (COLOUR.holds(low) and COLOUR.holds(high)):
        raise ValueError(
            f"{argument}: expected colours from 0 to 1, got {low:g} to {high:g}. Bring them into "
            "this range, for example by dividing by 255."
        )


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
