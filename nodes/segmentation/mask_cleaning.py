# Shapes: B pictures, H, W their size in pixels.
"""Tidying a segmentation: its largest piece, without holes; and what it cuts out."""

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


def pieces_at(mask: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
    """(H, W) bool, (H, W) bool -> the connected pieces of the first that the second touches."""
    from scipy import ndimage

    labels, _ = ndimage.label(mask.numpy(), structure=_EIGHT_NEIGHBOURS)
    return torch.from_numpy(np.isin(labels, np.unique(labels[marks.numpy() & mask.numpy()])))


def fill_holes(mask: torch.Tensor) -> torch.Tensor:
    """(H, W) bool -> the same with everything that it encloses."""
    from scipy import ndimage

    return torch.from_numpy(ndimage.binary_fill_holes(mask.numpy()))


def cleaned(mask: torch.Tensor, only_largest: bool, without_holes: bool) -> torch.Tensor:
    """(H, W) bool -> the same as a user wants it."""
    mask = largest_component(mask) if only_largest else mask
    return fill_holes(mask) if without_holes else mask


def cut_out_on_white(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """(B, H, W, 3) in 0..1 and (B, H, W) in 0..1 -> (B, H, W, 3), white outside the masks."""
    return 1.0 - masks.unsqueeze(-1) * (1.0 - images)
