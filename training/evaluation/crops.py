"""Crops of a box, cut in one way from generated pictures, real composites and the gallery.

# Shapes: H picture side, S crop side. Pixel boxes are x1 y1 x2 y2, the far edges exclusive.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

MARGIN = 0.08
PAPER_WHITE = 255


def box_crop(
    image: np.ndarray, box_px: tuple[int, int, int, int], side: int, margin: float = MARGIN
) -> np.ndarray:
    """The box with a margin, centred on a white square: (side, side, 3) uint8.

    Nothing but the box and its margin is seen, so that a neighbour does not answer for the
    subject; the aspect is kept.

    Args:
        image: (H, H, 3) uint8.
        box_px: the box, inside the picture.
        side: S.
        margin: added on every side, as a share of the box's longer side; cut at the picture's rim.
    """
    x1, y1, x2, y2 = box_px
    reach = round(margin * max(x2 - x1, y2 - y1))
    left, top = max(x1 - reach, 0), max(y1 - reach, 0)
    content = image[top : y2 + reach, left : x2 + reach]
    height, width = content.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = np.asarray(Image.fromarray(content).resize(size, Image.Resampling.BICUBIC))
    square = np.full((side, side, 3), PAPER_WHITE, np.uint8)
    corner_y, corner_x = (side - size[1]) // 2, (side - size[0]) // 2
    square[corner_y : corner_y + size[1], corner_x : corner_x + size[0]] = resized
    return square


def box_to_pixels(
    box_xyxy: tuple[float, float, float, float], side: int
) -> tuple[int, int, int, int]:
    """A box in 0..1 to whole pixels of a picture with ``side`` pixels.

    >>> box_to_pixels((0.25, 0.5, 0.75, 1.0), 128)
    (32, 64, 96, 128)
    """
    x1, y1, x2, y2 = (round(value * side) for value in box_xyxy)
    return x1, y1, x2, y2
