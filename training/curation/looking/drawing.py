"""Pictures with their subjects drawn in, small, as JPEG.

# Shapes: H, W picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = ((230, 25, 75), (0, 130, 200), (60, 180, 75), (245, 130, 48), (145, 30, 180),
           (0, 128, 128), (170, 110, 40), (240, 50, 230))  # fmt: skip
SIDE = 360  # pixels of the longer side
VEIL = 0.45  # of a mask's colour over the picture


@dataclass(frozen=True, kw_only=True)
class Marked:
    """A subject to draw: text, box x1 y1 x2 y2 in 0..1, mask (H, W) bool if it has one."""

    text: str
    box_xyxy: Sequence[float]
    mask: np.ndarray | None = None


def draw(picture: Image.Image, subjects: Sequence[Marked], side: int = SIDE) -> bytes:
    """JPEG of an RGB picture, shrunk to ``side``, each subject in a colour of its own."""
    small = picture.copy()
    small.thumbnail((side, side))
    canvas = np.asarray(small, dtype=np.float32)
    for number, subject in enumerate(subjects):
        if subject.mask is not None:
            colour = np.array(COLOURS[number % len(COLOURS)], np.float32)
            shrunk = Image.fromarray(subject.mask).resize(small.size, Image.Resampling.NEAREST)
            inside = np.asarray(shrunk, dtype=bool)[..., None]
            canvas = np.where(inside, canvas * (1 - VEIL) + colour * VEIL, canvas)
    shown = Image.fromarray(canvas.round().astype(np.uint8))
    lines, font = ImageDraw.Draw(shown), ImageFont.load_default(11)
    for number, subject in enumerate(subjects):
        colour_of = COLOURS[number % len(COLOURS)]
        x1, y1, x2, y2 = (v * s for v, s in zip(subject.box_xyxy, small.size * 2, strict=True))
        lines.rectangle((x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)), outline=colour_of, width=2)
        left, top, right, bottom = lines.textbbox((x1 + 4, y1 + 2), subject.text, font=font)
        lines.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=colour_of)
        lines.text((x1 + 4, y1 + 2), subject.text, fill="white", font=font)
    buffer = io.BytesIO()
    shown.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
