# Shapes: B pictures or masks, H, W their size.
"""Pictures and masks of any shape, type and range that nodes give, as the methods read them."""

from __future__ import annotations

import torch

from .errors import require_finite_tensor
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
