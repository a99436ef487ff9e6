# Shapes: K points.
"""What a user says of where a subject is in its picture, in that picture's pixels."""

from __future__ import annotations

import numpy as np

from ..subjects.boxes import parse_box
from .points import parse_points


def box_in_pixels(text: str, width: int, height: int) -> np.ndarray | None:
    """(4,) x1, y1, x2, y2 in pixels of the picture, or None for an empty text."""
    box = parse_box(text, "The subject")
    if box is None:
        return None
    edges = box.to_relative(width, height, "The subject").edges
    return np.array(edges) * (width, height, width, height)


def points_in_pixels(text: str, width: int, height: int) -> np.ndarray | None:
    """(K, 3) x, y in pixels and 1 on the subject, 0 beside it; None for an empty text."""
    points = parse_points(text)
    if not points:
        return None
    return np.array([(x * width, y * height, float(on)) for x, y, on in points])
