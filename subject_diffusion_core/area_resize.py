# Shapes: H, W size before, h, w size after.
"""Exact area coverage: how much of each cell of a regular grid an interval covers."""

from __future__ import annotations

import torch

WHOLE = (0.0, 0.0, 1.0, 1.0)


def interval_coverage(starts: torch.Tensor, ends: torch.Tensor, num_cells: int) -> torch.Tensor:
    """Covered share of each of `num_cells` equal cells of 0..1 by the interval [start, end].

    Args:
        starts, ends: (...) in 0..1; an end before its start covers nothing.

    Returns:
        (..., num_cells) in 0..1.

    >>> interval_coverage(torch.tensor(0.25), torch.tensor(1.0), 2)
    tensor([0.5000, 1.0000])
    """
    edges = torch.arange(num_cells + 1, device=starts.device, dtype=starts.dtype) / num_cells
    upper = torch.minimum(ends.unsqueeze(-1), edges[1:])
    lower = torch.maximum(starts.unsqueeze(-1), edges[:-1])
    return ((upper - lower) * num_cells).clamp(0, 1)


def area_resize(
    images: torch.Tensor,
    height: int,
    width: int,
    frame: tuple[float, float, float, float] = WHOLE,
) -> torch.Tensor:
    """Resize by exact area averages, for any pair of sizes.

    Args:
        images: (..., H, W) float.
        frame: x1, y1, x2, y2 in 0..1 of the images, the part that the result shows; what it shows
            beyond them is 0.

    Returns:
        (..., height, width): every cell is the mean of what lies under it.

    >>> area_resize(torch.tensor([[0.0, 1.0, 2.0]]), 1, 2)
    tensor([[0.3333, 1.6667]])
    >>> area_resize(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 1, 1, frame=(0.5, 0.0, 1.0, 1.0))
    tensor([[2.5000]])
    """
    left, top, right, bottom = frame
    rows = _averaging_matrix(images.shape[-2], height, (top, bottom), images)
    columns = _averaging_matrix(images.shape[-1], width, (left, right), images)
    return rows @ images @ columns.transpose(-2, -1)


def _averaging_matrix(
    size_in: int, size_out: int, extent: tuple[float, float], like: torch.Tensor
) -> torch.Tensor:
    """(size_out, size_in): the share of each output cell that each input pixel covers; rows of
    cells inside the images sum to 1."""
    edges = torch.arange(size_in + 1, device=like.device, dtype=torch.float64) / size_in
    edges = (edges - extent[0]) / (extent[1] - extent[0])
    weights = interval_coverage(edges[:-1], edges[1:], size_out).transpose(0, 1)
    return weights.to(like.dtype)
