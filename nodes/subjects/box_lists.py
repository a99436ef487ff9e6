"""Boxes for several subjects at once, as other nodes and scripts hand them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ...subject_diffusion_core.errors import shown
from ...subject_diffusion_core.pictures import read_masks
from ...subject_diffusion_core.schema import printed
from .boxes import FORMATS, is_mask, numbers_of, parse_box, parse_text
from .subject import Subjects

ARGUMENT = "boxes"
DEEPEST = 8  # lists in lists


def assign_boxes(subjects: Subjects, value: object) -> Subjects:
    """Give the boxes in `value` to the subjects, in order.

    Args:
        value: one box or several in any form that `parse_box` takes, nested in any way, also as
            text; masks (N, H, W) count as one box each. None among them leaves a subject its own
            box; None or empty text leaves all of them.
    """
    if isinstance(value, str):
        value = parse_text(value, ARGUMENT)
    if value is None:
        return subjects
    boxes = _separate(value)
    if len(boxes) != len(subjects):
        raise ValueError(_another_count(subjects, len(boxes)))
    return tuple(
        subject if box is None else replace(subject, box=parse_box(box, subject.name))
        for subject, box in zip(subjects, boxes, strict=True)
    )


def _another_count(subjects: Subjects, num_boxes: int) -> str:
    """The sentence about boxes that are not as many as the subjects."""
    order = shown(", ".join(subject.label for subject in subjects), limit=100)
    action = "Draw a box for each" if num_boxes == 0 else "Give as many boxes as there are subjects"
    return (
        f"{ARGUMENT}: expected {len(subjects)}, one for each subject in order, got {num_boxes}. "
        f"{action}, in this order: {order}; null keeps a subject's own."
    )


def _separate(value: object, depth: int = 0) -> list[object]:
    """The single boxes in a value, each still as it was written."""
    if depth > DEEPEST:
        raise ValueError(
            f"{ARGUMENT}: expected {FORMATS}, got lists nested more than {DEEPEST} deep. Correct "
            "the boxes."
        )
    if isinstance(value, torch.Tensor):
        if is_mask(value):
            return list(read_masks(ARGUMENT, value))
        value = numbers_of(value, ARGUMENT)
    if isinstance(value, str):
        parsed = parse_text(value, ARGUMENT)
        if parsed == [value.strip()] and not _is_number(value):
            raise ValueError(
                f"{ARGUMENT}: expected {FORMATS}, got {printed(value)}. Correct the boxes."
            )
        value = parsed
    if value is None or isinstance(value, Mapping):
        return [value]
    if not isinstance(value, Sequence):
        kind = type(value).__name__
        raise ValueError(
            f"{ARGUMENT}: expected boxes as text, lists, dictionaries or masks, got {kind}. "
            "Connect one of these."
        )
    if not value or not all(_is_number(item) for item in value):
        return [box for item in value for box in _separate(item, depth + 1)]
    if len(value) % 4 != 0:
        raise ValueError(
            f"{ARGUMENT}: expected four numbers a box (left, top, right, bottom), got {len(value)} "
            "numbers. Write x1,y1,x2,y2 for each subject."
        )
    return [list(value[first : first + 4]) for first in range(0, len(value), 4)]


def _is_number(item: Any) -> bool:
    """Whether `float` takes it; anything may be asked."""
    try:
        float(item)
    except (TypeError, ValueError, OverflowError):
        return False
    return True
