"""Operations on cut-outs: RGBA pictures with straight (not premultiplied) alpha."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE = 128


def crop_to_alpha(rgba: np.ndarray) -> np.ndarray:
    """The part of (H, W, 4) whose alpha is above 8 (empty where there is none)."""
    rows = np.flatnonzero((rgba[..., 3] > 8).any(1))
    columns = np.flatnonzero((rgba[..., 3] > 8).any(0))
    if not len(rows):
        return rgba[:0, :0]
    return rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def resize_rgba(rgba: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes straight-alpha (h, w, 4) to size (width, height).

    Pillow weights colours by alpha in this mode, so that no fringe of hidden colours appears.
    """
    return np.asarray(Image.fromarray(rgba, "RGBA").resize(size, Image.Resampling.LANCZOS))


def fill_square(rgba: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Scales (h, w, 4) so that its longer side is `side` and centres it in (side, side, 4)."""
    height, width = rgba.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size != (width, height):
        rgba = resize_rgba(rgba, size)
    square = np.zeros((side, side, 4), np.uint8)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = rgba
    return square


def reference_image(rgba: np.ndarray, side: int = SIDE) -> np.ndarray:
    """Reference picture of a subject: its square (S, S, 4) cut-out on white, (side, side, 3)."""
    rgba = fill_square(rgba, side)
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return (rgba[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)
