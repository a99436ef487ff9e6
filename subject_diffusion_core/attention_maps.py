# Shapes: B batch, H heads, Q visual tokens, L text tokens, K width of a head, N subject slots.
"""Attention probabilities of a few text tokens, beside (not instead of) fused attention."""

from __future__ import annotations

import torch

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
