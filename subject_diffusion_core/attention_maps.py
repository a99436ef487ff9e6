# Shapes: B batch, H heads, Q visual tokens, L text tokens, K width of a head, N subject slots, h, w
#         size of a map.
"""Attention probabilities of a few text tokens, beside (not instead of) fused attention, and what
they say about a box."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from .errors import require_shape


def token_column_probabilities(
    query: torch.Tensor,
    key: torch.Tensor,
    token_positions: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """Columns of softmax(scale * q k^T) at a few text tokens: exp(scale * q.k_n - logsumexp_l(scale
    * q.k_l)).

    Args:
        query: (B, H, Q, K) queries of a cross-attention layer.
        key: (B, H, L, K) its keys, one per text token.
        token_positions: (B, N) long in 0..L-1; negative = no token, its column is that of token 0
            and must be ignored by the caller (`subject_valid`).
        scale: factor on the logits, K^-0.5 if not given.

    Returns:
        (B, H, Q, N) probabilities in 0..1, float32 (float64 for float64 input).

    >>> token_column_probabilities(
    ...     torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 5, 4), torch.tensor([[3]])
    ... ).flatten()
    tensor([0.2000, 0.2000])
    """
    require_shape("query", query, ("B", "H", "Q", "K"), "Split the heads first")
    batch, heads, _, head_dim = query.shape
    require_shape("key", key, (batch, heads, "L", head_dim), "Split the heads first")
    require_shape("token_positions", token_positions, (batch, "N"), "Pass one position a subject")
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    scaled_query = query.to(dtype) * (head_dim**-0.5 if scale is None else scale)
    logits = scaled_query @ key.to(dtype).transpose(-2, -1)
    index = token_positions.clamp(min=0)[:, None, None, :].expand(*logits.shape[:3], -1)
    return (logits.gather(-1, index) - logits.logsumexp(dim=-1, keepdim=True)).exp()


def resize_maps(maps: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Maps (..., h, w) in another size, bilinear: (..., height, width).

    >>> resize_maps(torch.tensor([[0.0, 1.0]]), 1, 4)
    tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    flat = maps.reshape(1, -1, *maps.shape[-2:])
    resized = F.interpolate(flat, (height, width), mode="bilinear", align_corners=False)
    return resized.reshape(*maps.shape[:-2], height, width)


def normalize_maps(maps: torch.Tensor) -> torch.Tensor:
    """Every map (..., h, w) stretched to 0..1 between its least and its greatest value.

    A map that is the same everywhere says nothing and becomes 0.

    >>> normalize_maps(torch.tensor([[0.2, 0.3], [0.4, 0.6]]))
    tensor([[0.0000, 0.2500],
            [0.5000, 1.0000]])
    """
    least, greatest = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - least) / (greatest - least).clamp(min=torch.finfo(maps.dtype).tiny)


def map_box_iou(
    maps: torch.Tensor, boxes_xyxy: torch.Tensor, threshold: float = 0.5
) -> torch.Tensor:
    """Intersection over union of a box and the part of a map that is warm.

    Warm are the cells whose value, stretched to 0..1 by `normalize_maps`, is at least `threshold`;
    a cell belongs to the box if its centre does.

    Args:
        maps: (..., h, w).
        boxes_xyxy: (..., 4) in 0..1 of the picture that the map covers.

    Returns:
        (...) in 0..1; 0 for a map that is the same everywhere.

    >>> left_half = torch.tensor([[1.0, 0.9, 0.0, 0.1]])
    >>> map_box_iou(left_half, torch.tensor([0.0, 0.0, 0.75, 1.0]))
    tensor(0.6667)
    """
    require_shape("boxes_xyxy", boxes_xyxy, (*maps.shape[:-2], 4), "Pass one box per map")
    height, width = maps.shape[-2:]
    warm = normalize_maps(maps) >= max(threshold, torch.finfo(maps.dtype).tiny)
    x1, y1, x2, y2 = boxes_xyxy.to(maps)[..., None, None, :].unbind(-1)
    x = (torch.arange(width, device=maps.device) + 0.5) / width
    y = ((torch.arange(height, device=maps.device) + 0.5) / height).unsqueeze(-1)
    inside = (x1 <= x) & (x < x2) & (y1 <= y) & (y < y2)
    union = (warm | inside).sum((-2, -1))
    return (warm & inside).sum((-2, -1)) / union.clamp(min=1)
