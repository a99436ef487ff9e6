"""Boxes as users and other nodes write them: text, JSON, lists, dictionaries."""

from __future__ import annotations

import ast
import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ...subject_diffusion_core.pictures import SUBJECT_THRESHOLD, is_subject, read_masks
from ...subject_diffusion_core.schema import NUM_SUBJECTS, printed, require_text

CORNER_KEYS = ("x1", "y1", "x2", "y2")
PIXEL_KEYS = ("x", "y", "width", "height")
NOTHING = ("", "null", "None")  # ComfyUI turns null in a text input into "None"
FORMATS = (
    'four numbers in 0..1 "x1,y1,x2,y2" (left, top, right, bottom), or pixels as '
    '{"x": .., "y": .., "width": .., "height": ..}'
)


@dataclass(frozen=True, kw_only=True)
class Box:
    """Left, top, right and bottom edge of a subject in the generated picture.

    `unit` is "relative" for fractions of the picture in 0..1, "pixels" for pixels of a picture
    whose size is not known yet.
    """

    x1: float
    y1: float
    x2: float
    y2: float
    unit: Literal["relative", "pixels"] = "relative"

    @property
    def edges(self) -> tuple[float, float, float, float]:
        return (self.x1, self.y1, self.x2, self.y2)

    def to_relative(self, width: int, height: int, owner: str) -> Box:
        """The same box as fractions of a width x height picture, for the subject `owner`."""
        if self.unit == "relative":
            return self
        edges = (self.x1 / width, self.y1 / height, self.x2 / width, self.y2 / height)
        if max(edges) > 1.0:
            raise ValueError(
                f"{owner}'s box: expected a box inside the {width}x{height} picture, got pixels "
                f"{_text(self.edges)}. Move the box inside or set width and height to the "
                "picture's size."
            )
        return Box(x1=edges[0], y1=edges[1], x2=edges[2], y2=edges[3])


def parse_box(value: object, owner: str) -> Box | None:
    """Read one box.

    Four numbers (as text, JSON or a list) and a dictionary with x1, y1, x2, y2 are fractions in
    0..1. A dictionary with x, y, width, height, as ComfyUI's bounding boxes have it, is in pixels
    of the generated picture. Lists with a single box in them are unwrapped.

    Args:
        value: text, a list, a tensor or a dictionary, or a mask (H, W) or (1, H, W) of the picture;
            empty text and None mean "no box".
        owner: how errors call the subject, for example "Subject 2".
    """
    if isinstance(value, str):
        value = parse_text(value, f"{owner}'s box")
    if isinstance(value, torch.Tensor):
        if is_mask(value):
            masks = read_masks(f"{owner}'s box", value)
            if len(masks) != 1:
                raise ValueError(
                    f"{owner}'s box: expected one mask, got {len(masks)}. Pick one of them."
                )
            return box_around(masks[0], owner, "box")
        value = numbers_of(value, f"{owner}'s box")
    while isinstance(value, Sequence) and len(value) == 1 and not isinstance(value, str):
        value = value[0]
    if value is None or (isinstance(value, Sequence) and len(value) == 0):
        return None
    box = _box_from_mapping(value) if isinstance(value, Mapping) else _box_from_numbers(value)
    if box is None:
        raise ValueError(
            f"{owner}'s box: expected {FORMATS}, got {printed(value)}. Write one such box."
        )
    _check(box, owner)
    return box


def mask_edges(mask: torch.Tensor) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom edge, in pixels, of what counts in a mask (H, W)."""
    inside = is_subject(mask)
    rows, columns = (torch.nonzero(inside.any(dim=axis))[:, 0] for axis in (1, 0))
    if len(rows) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def box_around(mask: torch.Tensor, owner: str, argument: str) -> Box:
    """The box of what counts in a mask (H, W) of the whole generated picture.

    `owner` and `argument` say whose mask it is in the error.
    """
    edges = mask_edges(mask)
    if edges is None:
        raise ValueError(
            f"{owner}'s {argument}: expected 1 where the subject shall stand, got a mask without "
            f"any value above {SUBJECT_THRESHOLD:g}. Paint the place white; Load Image "
            "gives 1 where the picture is transparent."
        )
    height, width = mask.shape
    x1, y1, x2, y2 = edges
    return Box(x1=x1 / width, y1=y1 / height, x2=x2 / width, y2=y2 / height)


def is_mask(value: torch.Tensor) -> bool:
    """Whether a tensor is a mask rather than the numbers of boxes, which come in fours."""
    return value.ndim >= 2 and value.shape[-1] != 4


def numbers_of(value: torch.Tensor, argument: str) -> object:
    """The boxes in a tensor (..., 4), as lists."""
    if value.numel() > 4 * NUM_SUBJECTS.high:
        raise ValueError(
            f"{argument}: expected at most {NUM_SUBJECTS.high:g} boxes, got a tensor of shape "
            f"{tuple(value.shape)}. Connect boxes or masks."
        )
    numbers: object = value.tolist()
    return numbers


def parse_text(text: str, argument: str) -> object:
    """JSON, or numbers with commas or spaces between them; `argument` is what errors call it."""
    require_text(argument, text)
    text = text.strip()
    if text in NOTHING:
        return None
    if text[0] not in "[{(":
        return [part for part in re.split(r"[,;\s]+", text) if part]
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at character {error.pos}"
    except RecursionError:
        reason = "nested too deeply"
    except ValueError:
        reason = "a number has too many digits"
    # ComfyUI turns a dictionary in a text input into Python's way of writing it
    with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        return ast.literal_eval(text)
    raise ValueError(
        f"{argument}: expected {FORMATS}, got JSON that does not parse ({reason}). Correct the "
        "JSON."
    )


def _box_from_mapping(value: Mapping[str, object]) -> Box | None:
    if all(key in value for key in CORNER_KEYS):
        return _box_from_numbers([value[key] for key in CORNER_KEYS])
    if not all(key in value for key in PIXEL_KEYS):
        return None
    numbers = _numbers([value[key] for key in PIXEL_KEYS])
    if numbers is None:
        return None
    x, y, width, height = numbers
    return Box(x1=x, y1=y, x2=x + width, y2=y + height, unit="pixels")


def _box_from_numbers(value: object) -> Box | None:
    numbers = _numbers(value)
    if numbers is None:
        return None
    return Box(x1=numbers[0], y1=numbers[1], x2=numbers[2], y2=numbers[3])


def _numbers(value: object) -> list[float] | None:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 4:
        return None
    try:
        return [float(number) for number in value]
    except (TypeError, ValueError, OverflowError):
        return None


def _check(box: Box, owner: str) -> None:
    if not all(math.isfinite(edge) for edge in box.edges):
        raise ValueError(
            f"{owner}'s box: expected finite numbers, got {_text(box.edges)}. Correct the box."
        )
    if box.x1 >= box.x2 or box.y1 >= box.y2:
        raise ValueError(
            f"{owner}'s box: expected x1 < x2 and y1 < y2, got {_text(box.edges)}. Give the left, "
            "top, right and bottom edge in this order; the box must not be empty."
        )
    outside = min(box.edges) < 0.0 or (box.unit == "relative" and max(box.edges) > 1.0)
    if outside:
        hint = (
            " Numbers from 0 to 1000 have to be divided by 1000."
            if box.unit == "relative" and 2.0 < max(box.edges) <= 1000.0 and min(box.edges) >= 0.0
            else ""
        )
        limits = "0..1" if box.unit == "relative" else "the picture"
        raise ValueError(
            f"{owner}'s box: expected numbers inside {limits}, got {_text(box.edges)}. "
            'Four numbers are fractions of the picture; for pixels write {"x": .., "y": .., '
            f'"width": .., "height": ..}}.{hint}'
        )


def _text(edges: Sequence[float]) -> str:
    return ", ".join(f"{edge:g}" for edge in edges)
