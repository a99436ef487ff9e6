"""Reading masks stored as COCO's compressed run lengths, which let masks of a sample overlap.

``{"size": [H, W], "counts": "..."}``, as COCO's tools (pycocotools) write and read them.
"""

from __future__ import annotations

import numpy as np

from .bad_sample import BadSample


def decode_mask(size: tuple[int, int], counts: str) -> np.ndarray:
    """The (H, W) bool mask; BadSample("unreadable mask") where the runs do not fill it.

    >>> decode_mask((2, 2), "13")
    array([[False,  True],
           [ True,  True]])
    """
    runs = _full_runs(size, counts)
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size, order="F")


def mask_area(size: tuple[int, int], counts: str) -> int:
    """Pixels of the mask, without making it; BadSample as :func:`decode_mask`."""
    return int(_full_runs(size, counts)[1::2].sum())


def _full_runs(size: tuple[int, int], counts: str) -> np.ndarray:
    """Lengths down the columns, background first, together all pixels."""
    runs = _runs(counts)
    if min(size) < 1 or runs.min(initial=0) < 0 or runs.sum() != size[0] * size[1]:
        raise BadSample("unreadable mask")
    return runs


def _runs(counts: str) -> np.ndarray:
    """Numbers of 5 bits a character, low bits first, the sixth bit says that one goes on; from the
    fourth number on, the difference to the run two before it."""
    bits = np.frombuffer(counts.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((bits & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if len(bits) == 0 or bits.min() < 0 or bits.max() > 63 or len(last) == 0:
        raise BadSample("unreadable mask")
    if last[-1] != len(bits) - 1 or lengths.max() > 7:
        raise BadSample("unreadable mask")
    place = np.arange(len(bits)) - np.repeat(first, lengths)
    runs = np.add.reduceat((bits & 31) << (5 * place), first)
    runs -= np.where(bits[last] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs
