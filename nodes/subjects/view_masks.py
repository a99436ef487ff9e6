# Shapes: V views of one subject, H and W the picture's size.
"""Which part of its pictures is the subject: what a mask marks, and masks that are none."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from ...subject_diffusion_core.errors import shown
from ...subject_diffusion_core.pictures import is_subject, marks_background

MARKS = ("subject", "background", "guess")
PLACEHOLDER_MASK_SIZE = (64, 64)


def read_view_masks(
    images: torch.Tensor,
    masks: torch.Tensor | None,
    owner: str,
    marks: str,
    warn: Callable[[str], None],
) -> torch.Tensor | None:
    """(V, H, W) on the CPU, 1 = subject; None = the whole picture. Where no mask says it, what the
    pictures' alpha channel leaves does.

    Args:
        images: (V, H, W, 3 or 4), the subject's pictures.
        masks: (1 or V, H, W) in 0..1; with --gpu-only some nodes give masks that lie on the GPU.
        marks: "subject" or "background", or "guess": the background where the mask goes along all
            four edges of the picture.
        warn: takes a sentence about what was guessed, or is likely the other way round.
    """
    taken = None if masks is None else _marked(masks.cpu(), images, owner, marks, warn)
    alpha = images[..., 3:].cpu()
    if taken is None and alpha.shape[-1] == 1 and bool((alpha < 1.0).any()):
        return _marked(alpha[..., 0], images, owner, "subject", warn)
    return taken


def _marked(
    masks: torch.Tensor,
    images: torch.Tensor,
    owner: str,
    marks: str,
    warn: Callable[[str], None],
) -> torch.Tensor | None:
    """None where ComfyUI only handed over its "this picture has no alpha" mask."""
    views, height, width = images.shape[:3]
    size = tuple(masks.shape[-2:])
    if size != (height, width):
        if size == PLACEHOLDER_MASK_SIZE and bool(masks.min() == masks.max()):
            logging.info("%s: the picture has no alpha channel, so its mask is not used.", owner)
            return None
        raise ValueError(
            f"{owner}'s mask: expected the size of its picture, {width}x{height}, got "
            f"{size[1]}x{size[0]}. Connect the mask of the same picture or resize it."
        )
    if masks.shape[0] not in (1, views):
        raise ValueError(
            f"{owner}'s mask: expected 1 mask or one per view ({views}), got {masks.shape[0]}. "
            "Connect as many masks as pictures."
        )
    masks = _turned_to_subject(masks, owner, marks, warn)
    if not bool(is_subject(masks).flatten(1).any(dim=1).all()):
        raise ValueError(
            f"{owner}'s mask: expected 1 where the subject is, got a mask that is empty. ComfyUI's "
            "Load Image gives 1 where the picture is transparent: choose background in "
            "`mask_marks`, or put Invert Mask between."
        )
    return masks.expand(views, -1, -1)


def _turned_to_subject(
    masks: torch.Tensor, owner: str, marks: str, warn: Callable[[str], None]
) -> torch.Tensor:
    """The masks with 1 where the subject is."""
    if marks not in MARKS:
        raise ValueError(
            f"{owner}'s mask_marks: expected {', '.join(MARKS)}, got '{shown(marks)}'. Choose "
            "one of them."
        )
    is_frame = marks_background(masks[0])
    if marks == "guess":
        warn(
            f"{owner}'s mask: took it for that of the "
            + ("background, as it goes along all edges of the picture" if is_frame else "subject")
            + ". Choose what it marks in `mask_marks`."
        )
    elif is_frame and marks == "subject":
        warn(
            f"{owner}'s mask goes along all edges of its picture, as that of a background does. If "
            "it is one, choose background in `mask_marks`, or put Invert Mask between."
        )
    turns = marks == "background" or (marks == "guess" and is_frame)
    return 1.0 - masks if turns else masks
