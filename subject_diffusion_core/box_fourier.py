# Shapes: B batch, N subject slots, P patches of a subject (a square number), F frequencies, Q = h*w
# latent cells.
"""Fourier features of boxes, and the boxes of patches and of latent cells."""

from __future__ import annotations

import math

import torch
from torch import nn

from .errors import ShapeError, require_shape

COORDINATES_PER_BOX = 4


class BoxFourierEmbedder(nn.Module):
    """GLIGEN's Fourier features of a box, without parameters.

    For the frequencies f_k = temperature^(k/F), k = 0..F-1 (no factor 2*pi), the output is,
    frequency by frequency, sin(f_k x1), sin(f_k y1), sin(f_k x2), sin(f_k y2) and then the four
    cosines.

    Args:
        num_freqs: F.
        temperature: the base of the geometric series of frequencies.

    >>> BoxFourierEmbedder()(torch.tensor([0.1, 0.2, 0.5, 0.9])).shape
    torch.Size([64])
    """

    def __init__(self, num_freqs: int = 8, temperature: float = 100.0) -> None:
        super().__init__()
        if num_freqs < 1:
            raise ValueError(
                f"num_freqs: expected 1 or more, got {num_freqs}. Use the checkpoint's value."
            )
        self.num_freqs = num_freqs
        self.temperature = temperature

    @property
    def out_dim(self) -> int:
        """Number of features per box, 8 * F."""
        return 2 * COORDINATES_PER_BOX * self.num_freqs

    def forward(self, boxes_xyxy: torch.Tensor) -> torch.Tensor:
        """Embed boxes.

        Args:
            boxes_xyxy: (..., 4) x1 y1 x2 y2 in 0..1 of the generated image.

        Returns:
            (..., 8 * F) in -1..1, in float32 (float64 for float64 boxes), whatever the dtype of the
            boxes.
        """
        if boxes_xyxy.ndim == 0 or boxes_xyxy.shape[-1] != COORDINATES_PER_BOX:
            raise ShapeError(
                f"boxes_xyxy: expected shape (..., 4), got {tuple(boxes_xyxy.shape)}. "
                "Pass x1, y1, x2, y2 as the last dimension."
            )
        boxes = boxes_xyxy if boxes_xyxy.dtype == torch.float64 else boxes_xyxy.float()
        exponents = torch.arange(self.num_freqs, device=boxes.device, dtype=boxes.dtype)
        frequencies = self.temperature ** (exponents / self.num_freqs)
        angles = boxes.unsqueeze(-2) * frequencies.unsqueeze(-1)  # (..., F, 4)
        return torch.stack((angles.sin(), angles.cos()), dim=-2).flatten(-3)


def grid_boxes_xyxy(
    height: int, width: int, device: torch.device | str | None = None
) -> torch.Tensor:
    """Boxes of the cells of a height x width grid over the unit square, row by row.

    Returns:
        (height * width, 4) x1 y1 x2 y2 in 0..1, float32.

    >>> grid_boxes_xyxy(1, 2)
    tensor([[0.0000, 0.0000, 0.5000, 1.0000],
            [0.5000, 0.0000, 1.0000, 1.0000]])
    """
    y_edges = torch.arange(height + 1, device=device, dtype=torch.float32) / height
    x_edges = torch.arange(width + 1, device=device, dtype=torch.float32) / width
    y1, x1 = torch.meshgrid(y_edges[:-1], x_edges[:-1], indexing="ij")
    y2, x2 = torch.meshgrid(y_edges[1:], x_edges[1:], indexing="ij")
    return torch.stack((x1, y1, x2, y2), dim=-1).flatten(0, 1)


def cell_position_features(
    height: int,
    width: int,
    embedder: BoxFourierEmbedder,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Fourier features of each latent cell's own box, for the queries of the adapters.

    Returns:
        (1, height * width, 8 * F), row-major, float32.

    >>> cell_position_features(2, 3, BoxFourierEmbedder()).shape
    torch.Size([1, 6, 64])
    """
    features: torch.Tensor = embedder(grid_boxes_xyxy(height, width, device))
    return features.unsqueeze(0)


def patch_boxes_xyxy(subject_boxes_xyxy: torch.Tensor, num_patches: int) -> torch.Tensor:
    """Where each patch of the (square) reference picture lies if the subject fills its box.

    The reference picture is the subject padded to a square, so it is laid over the square of side
    max(w, h) centred on the subject's box, in normalised coordinates; parts of that square may lie
    outside 0..1.

    Args:
        subject_boxes_xyxy: (B, N, 4) in 0..1.
        num_patches: P, a square number; patches are row-major.

    Returns:
        (B, N, P, 4) x1 y1 x2 y2.

    >>> patch_boxes_xyxy(torch.tensor([[[0.0, 0.25, 1.0, 0.75]]]), 1)
    tensor([[[[0., 0., 1., 1.]]]])
    """
    require_shape("subject_boxes_xyxy", subject_boxes_xyxy, ("B", "N", 4), "Pass one box a slot")
    grid_size = math.isqrt(num_patches)
    if grid_size * grid_size != num_patches:
        raise ValueError(
            f"num_patches: expected a square number, got {num_patches}. "
            "Patch positions need a square grid: set patch_positions=False."
        )
    top_left, bottom_right = subject_boxes_xyxy[..., :2], subject_boxes_xyxy[..., 2:]
    side = (bottom_right - top_left).amax(dim=-1, keepdim=True)
    origin = (top_left + bottom_right - side) / 2
    grid = grid_boxes_xyxy(grid_size, grid_size, subject_boxes_xyxy.device).to(side.dtype)
    return origin.repeat(1, 1, 2).unsqueeze(2) + side.unsqueeze(2) * grid
