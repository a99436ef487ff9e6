"""Which pixels a dataset's makers drew on: those that a file stores, or those that are shown.

A camera may store a picture turned and say so (EXIF orientation 1 to 8). Annotations state the size
of the picture that they belong to, which tells the two apart where the sides differ.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..pictures import orientation

SWAPS_SIDES = (5, 6, 7, 8)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The pixels that boxes and masks of a picture lie on.

    Attributes:
        width, height: their size.
        as_stored: whether the camera's orientation is still to be applied.
    """

    width: int
    height: int
    as_stored: bool


def same_proportions(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes have the same proportions, but for a rounded pixel."""
    return abs(first[0] * second[1] - first[1] * second[0]) <= max(second)


def find_frame(picture: Path, width: int, height: int) -> Frame | None:
    """The frame of annotations that were drawn on ``width`` x ``height``, in any resolution.

    Where stored and shown pixels have these proportions, the stored ones count (COCO's own tools
    draw there); None where neither has. A picture that cannot be read keeps the stated size: the
    check says what is wrong with it.
    """
    found = _read(picture)
    if found is None:
        return Frame(width=width, height=height, as_stored=True)
    stored_width, stored_height, turned = found
    if same_proportions((width, height), (stored_width, stored_height)):
        return Frame(width=stored_width, height=stored_height, as_stored=True)
    if turned in SWAPS_SIDES and same_proportions((width, height), (stored_height, stored_width)):
        return Frame(width=stored_height, height=stored_width, as_stored=False)
    return None


def _read(picture: Path) -> tuple[int, int, int] | None:
    """Stored width and height and orientation, from the head of the file alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(picture) as file:
                turned = orientation(file) or 1
                if file.format == "TIFF" and turned in SWAPS_SIDES:  # Pillow states what is shown
                    return file.height, file.width, turned
                return file.width, file.height, turned
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
