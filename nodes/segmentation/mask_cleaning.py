# Shapes: H, W size of a picture in pixels.
"""Tidying a segmentation: its largest piece, without holes."""

from __future__ import annotations

import numpy as np
import torch

# A piece hangs together also over corners; then a hole must be closed over edges only.
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def largest_component(mask: torch.Tensor) -> torch.Tensor:
    """(H, W) bool -> its largest connected piece; of equal ones the first, row by row.

    An empty mask stays empty.
    """
    from scipy import ndimage

    labels, count = ndimage.label(mask.numpy(), structure=_EIGHT_NEIGHBOURS)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    return torch.from_numpy(labels == 1 + int(sizes.argmax()))


def fill_holes(mask: torch.Tensor) -> torch.Tensor:
    """(H, W) bool -> the same with everything that it encloses."""
    from scipy import ndimage

    return torch.from_numpy(ndimage.binary_fill_holes(mask.numpy()))
