"""Masks as datasets write them (polygons, run lengths, PNG files), as bool arrays.

A ValueError's text is the countable reason why an annotation has no mask.
# Shapes: H, W picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ...dataset.run_lengths import decode_mask
from ..record import RunLengths
from ..record_masks import run_lengths
from .frames import Frame


def fit_mask(mask: np.ndarray, frame: Frame) -> RunLengths:
    """A mask (H, W) bool, in whatever resolution, as a record of that frame holds it."""
    if not mask.any():
        raise ValueError("empty mask")
    if mask.shape != (frame.height, frame.width):
        size = (frame.width, frame.height)
        mask = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST), dtype=bool)
    if not mask.any():
        raise ValueError("empty mask")
    return run_lengths(mask)


def read_segmentation(segmentation: object, width: int, height: int) -> np.ndarray | None:
    """COCO's ``segmentation`` as a mask (H, W) bool; None where there is none."""
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, list):
        return _from_polygons(segmentation, width, height)
    if isinstance(segmentation, Mapping):
        return _from_runs(segmentation, width, height)
    raise ValueError("segmentation of another kind")


def _from_polygons(polygons: list[Any], width: int, height: int) -> np.ndarray:
    """All polygons of a subject together; x1 y1 x2 y2 ... in pixels."""
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("polygon of fewer than three points")
        if not all(isinstance(v, int | float) and math.isfinite(v) for v in polygon):
            raise ValueError("polygon is not numbers")
        along_x, along_y = polygon[::2], polygon[1::2]
        if min(along_x) < -width or max(along_x) > 2 * width:
            raise ValueError("polygon outside the picture")
        if min(along_y) < -height or max(along_y) > 2 * height:
            raise ValueError("polygon outside the picture")
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return np.ascontiguousarray(coco_mask.decode(runs)).astype(bool)


def _from_runs(segmentation: Mapping[str, Any], width: int, height: int) -> np.ndarray:
    """Run lengths, compressed (text) or not (a list of numbers)."""
    counts = segmentation.get("counts")
    if segmentation.get("size") != [height, width]:
        raise ValueError("run lengths of another size")
    if isinstance(counts, str):
        return decode_mask((height, width), counts)
    if not isinstance(counts, list) or not all(isinstance(c, int) and c >= 0 for c in counts):
        raise ValueError("run lengths are not numbers")
    if sum(counts) != height * width:
        raise ValueError("run lengths of another size")
    inside = np.arange(len(counts)) % 2 == 1
    return np.ascontiguousarray(np.repeat(inside, counts).reshape(width, height).T)
