# Shapes: B batch, H heads, Q = h*w latent cells, K width of a head, N subjects, T tokens of each.
"""MS-Diffusion's attention: all subjects compete in one softmax, each inside its own box."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..errors import require_shape


def box_cells(subject_boxes_xyxy: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Which latent cells a box touches: columns floor(x1*w) .. ceil(x2*w)-1, rows alike.

    Args:
        subject_boxes_xyxy: (N, 4) in 0..1 of the generated picture; an empty box touches nothing.
        height, width: h and w.

    Returns:
        (N, h*w) bool, row by row.

    >>> box_cells(torch.tensor([[0.3, 0.0, 0.6, 1.0]]), 1, 4)
    tensor([[False,  True,  True, False]])
    """
    require_shape("subject_boxes_xyxy", subject_boxes_xyxy, ("N", 4), "Pass one box a subject")
    x1, y1, x2, y2 = subject_boxes_xyxy.float().unbind(-1)
    columns = _touched(x1, x2, width)
    rows = _touched(y1, y2, height)
    return (rows[:, :, None] & columns[:, None, :]).flatten(1)


def _touched(starts: torch.Tensor, ends: torch.Tensor, num_cells: int) -> torch.Tensor:
    """(N,), (N,) -> (N, num_cells)"""
    cells = torch.arange(num_cells, device=starts.device)
    first, last = (starts * num_cells).floor(), (ends * num_cells).ceil()
    is_inside = (cells >= first[:, None]) & (cells < last[:, None])
    return is_inside & (starts < ends)[:, None]


def joint_image_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    subject_cells: torch.Tensor,
    subject_scales: torch.Tensor | None = None,
) -> torch.Tensor:
    """One softmax over the tokens of all subjects that a cell lies in.

    out_q = sum_i s_i sum_t softmax(q.k / sqrt(K) over the subjects of the cell)_{i,t} v_{i,t}

    Args:
        query: (B, H, Q, K).
        key, value: (B, H, N*T, K), subject by subject.
        subject_cells: (N, Q) or (B, N, Q) bool, where each subject is seen.
        subject_scales: (N,), factors of the subjects' probabilities after the softmax; None = 1.

    Returns:
        (B, H, Q, K); rows of cells in no subject are 0.
    """
    num_subjects, num_cells = subject_cells.shape[-2:]
    require_shape("query", query, ("B", "H", num_cells, "K"), "Pass the cells of the same layer")
    if key.shape[2] % num_subjects or key.shape != value.shape:
        raise ValueError(
            f"key: expected equally many keys and values for each of {num_subjects} subjects, got "
            f"{key.shape[2]} and {value.shape[2]}. Pass all subjects' tokens, subject by subject."
        )
    tokens = key.shape[2] // num_subjects
    if subject_scales is not None:
        # scaling a subject's values is scaling its probabilities
        value = value * subject_scales.to(value).repeat_interleave(tokens)[:, None]
    cells = subject_cells if subject_cells.ndim == 3 else subject_cells[None]
    is_inside = cells.any(dim=1)[:, None, :, None]  # (B, 1, Q, 1)
    mask = None
    if num_subjects > 1:
        # a row without any column would be NaN: cells in no subject see all, and are set to 0
        seen = cells | ~cells.any(dim=1, keepdim=True)
        mask = seen.transpose(1, 2).repeat_interleave(tokens, dim=2)[:, None]
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return torch.where(is_inside, attended, torch.zeros_like(attended))


def looked_at_cells(label_attention: torch.Tensor) -> torch.Tensor:
    """Where the text attention to a subject's label is high: above half way between its least and
    greatest value, MS-Diffusion's automatic layout.

    Args:
        label_attention: (..., Q), mean over heads, the label's tokens and the steps so far.

    Returns:
        (..., Q) bool; nowhere where the attention is the same in all cells.

    >>> looked_at_cells(torch.tensor([0.0, 0.1, 0.3, 0.4]))
    tensor([False, False,  True,  True])
    """
    least, greatest = (bound(dim=-1, keepdim=True) for bound in (
        label_attention.amin, label_attention.amax))  # fmt: skip
    return label_attention - least > 0.5 * (greatest - least)
