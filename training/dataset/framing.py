"""Bringing a picture of any size to a square of the training resolution, with its subjects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from .layout import BadSample, Entity

MIN_VISIBLE_SHARE = 0.5  # of a subject's pixels that must survive the crop
MIN_BOX_SIDE = 0.04  # of the picture


def square_around(mask: np.ndarray) -> tuple[int, int, int]:
    """Left, top and side of the largest square that keeps the subjects (H, W) bool in its middle.

    >>> square_around(np.array([[False, False, True, True]]))
    (3, 0, 1)
    """
    height, width = mask.shape
    side = min(height, width)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        raise BadSample("empty mask")
    center_y, center_x = (rows[0] + rows[-1] + 1) / 2, (columns[0] + columns[-1] + 1) / 2
    left = int(np.clip(round(center_x - side / 2), 0, width - side))
    top = int(np.clip(round(center_y - side / 2), 0, height - side))
    return left, top, side


def frame(
    image: np.ndarray, entities: tuple[Entity, ...], resolution: int
) -> tuple[np.ndarray, tuple[Entity, ...]]:
    """The picture as (resolution, resolution, 3) and the entities that are still in it.

    A picture of that size already stays as it is, boxes included.
    """
    if image.shape[:2] == (resolution, resolution):
        return image, entities
    left, top, side = square_around(np.any([entity.mask for entity in entities], axis=0))
    area = np.s_[top : top + side, left : left + side]
    size = (resolution, resolution)
    picture = Image.fromarray(np.ascontiguousarray(image[area]))
    framed = np.asarray(picture.resize(size, Image.Resampling.LANCZOS))
    kept = []
    for entity in entities:
        inside = entity.mask[area]
        if inside.sum() < MIN_VISIBLE_SHARE * max(1, entity.mask.sum()):
            continue
        shrunk = Image.fromarray(inside.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
        mask = np.asarray(shrunk) >= 128
        box = mask_box(mask)
        if box is not None:
            kept.append(replace(entity, mask=mask, box_xyxy=box))
    if not kept:
        raise BadSample("no subject inside the square crop")
    return framed, tuple(kept)


def mask_box(mask: np.ndarray) -> tuple[float, float, float, float] | None:
    """Bounding box x1 y1 x2 y2 in 0..1 of a (H, W) bool mask; None if too small to be a subject."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if len(rows) == 0:
        return None
    height, width = mask.shape
    box = (columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)
    if min(box[2] - box[0], box[3] - box[1]) < MIN_BOX_SIDE:
        return None
    return tuple(float(value) for value in box)  # type: ignore[return-value]
