"""From pixels to a record's run lengths, and back."""

from __future__ import annotations

import numpy as np

from ..dataset.run_lengths import decode_mask, mask_area
from .record import RunLengths


def run_lengths(mask: np.ndarray) -> RunLengths:
    """The run lengths of a (H, W) bool mask.

    >>> run_lengths(np.array([[False, True], [True, True]]))
    RunLengths(height=2, width=2, counts='13')
    """
    from pycocotools import mask as coco

    found = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    height, width = (int(side) for side in found["size"])
    return RunLengths(height=height, width=width, counts=found["counts"].decode())


def pixels_of(mask: RunLengths) -> np.ndarray:
    """The (H, W) bool mask; BadSample("unreadable mask") where the runs do not fill it."""
    return decode_mask((mask.height, mask.width), mask.counts)


def area_of(mask: RunLengths) -> int:
    """Pixels of the mask, without making it; BadSample as :func:`pixels_of`."""
    return mask_area((mask.height, mask.width), mask.counts)
