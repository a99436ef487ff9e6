"""Bringing a picture of any size to a square of the training resolution, with its subjects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from .bad_sample import BadSample
from .layout import Entity

MIN_VISIBLE_SHARE = 0.5  # of a subject's pixels that must survive the crop
MIN_BOX_SIDE = 0.04  # of the picture


def best_square(masks: list[np.ndarray]) -> tuple[int, int, int]:
    """Left, top and side of the largest square that keeps the most subjects, near their middle.

    A subject is kept if ``MIN_VISIBLE_SHARE`` of its pixels are inside. ``masks``: (H, W) bool.

    >>> best_square([np.array([[False, False, True, True]])])
    (2, 0, 1)
    """
    height, width = masks[0].shape
    side = min(height, width)
    along = 1 if width >= height else 0  # the axis that is cut
    offsets = np.arange(max(height, width) - side + 1)
    kept, middles = np.zeros(len(offsets)), []
    for mask in masks:
        profile = mask.sum(1 - along)
        if profile.sum() == 0:
            raise BadSample("empty mask")
        sums = np.concatenate([[0], np.cumsum(profile)])
        visible = (sums[offsets + side] - sums[offsets]) / profile.sum()
        kept += visible >= MIN_VISIBLE_SHARE
        middles.append(np.average(np.arange(len(profile)) + 0.5, weights=profile))
    away = np.abs(offsets + side / 2 - np.mean(middles))
    offset = int(offsets[np.lexsort((away, -kept))[0]])
    return (offset, 0, side) if along else (0, offset, side)


def frame(
    image: np.ndarray, entities: tuple[Entity, ...], resolution: int
) -> tuple[np.ndarray, tuple[Entity, ...]]:
    """The picture as (resolution, resolution, 3) and the entities that are still in it.

    A picture of that size already stays as it is, boxes included.
    """
    if image.shape[:2] == (resolution, resolution):
        return image, entities
    left, top, side = best_square([entity.mask for entity in entities])
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
