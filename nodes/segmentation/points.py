"""Points as users write them: text or JSON, in fractions of the picture."""

from __future__ import annotations

import json
import math
import re
from typing import NamedTuple

FORMATS = (
    '"x,y" in 0..1, several as "x,y; x,y", with a third number 0 for a point beside the subject'
)


class Point(NamedTuple):
    """A place in 0..1 of the picture, and whether it is on the subject."""

    x: float
    y: float
    is_subject: bool


def parse_points(text: str) -> tuple[Point, ...]:
    """Read points.

    >>> parse_points("0.5,0.25; 0.1,0.1,0")
    (Point(x=0.5, y=0.25, is_subject=True), Point(x=0.1, y=0.1, is_subject=False))
    """
    text = text.strip()
    if not text:
        return ()
    try:
        rows = json.loads(text) if text[0] == "[" else _rows(text)
        if rows and not isinstance(rows[0], list):
            rows = [rows]
        return tuple(_point([float(number) for number in row]) for row in rows)
    except (ValueError, TypeError, IndexError, OverflowError, RecursionError):
        raise ValueError(
            f"points: expected {FORMATS}, got {text[:80]!r}. Correct the points."
        ) from None


def _rows(text: str) -> list[list[str]]:
    lines = [line.strip() for line in re.split(r"[;\n]", text)]
    return [re.split(r"[,\s]+", line) for line in lines if line]


def _point(numbers: list[float]) -> Point:
    x, y, *rest = numbers
    (kind,) = rest or [1.0]
    if not all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in (x, y)):
        raise ValueError
    if kind not in (0.0, 1.0):
        raise ValueError
    return Point(x, y, kind == 1.0)
