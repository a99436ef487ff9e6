# Shapes: B batch, H heads, Q positions of the picture, L own keys, R keys of references, K width of
#         a head, S subjects, q queries and r keys of a group.
"""How much of a picture's self-attention goes to the keys of references."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import require_shape
from .self_subject_attention import QueryGroup

# Of logits that are held at a time.
MOST_NUMBERS = 2**24


def reference_attention_share(
    query: torch.Tensor,
    key: torch.Tensor,
    reference_key: torch.Tensor,
    groups: Sequence[QueryGroup],
    subject_of_key: torch.Tensor,
    num_subjects: int,
) -> torch.Tensor:
    """The sum of the softmax's columns that belong to each subject, beside fused attention.

    Args:
        query: (B, H, Q, K) of the picture.
        key: (B, H, L, K) of the picture.
        reference_key: (B or 1, H, R, K).
        groups: as for `attend_in_groups`; queries in none see no reference.
        subject_of_key: (R,) long, the subject of every key.

    Returns:
        (B, Q, S) in 0..1, mean over heads, float32 (float64 for float64 input).

    >>> zeros = torch.zeros(1, 1, 1, 2)
    >>> group = QueryGroup(queries=None, keys=None, log_weights=torch.tensor([[3.0]]).log())
    >>> reference_attention_share(zeros, zeros, zeros, [group], torch.tensor([0]), 1)
    tensor([[[0.7500]]])
    """
    batch, heads, num_queries, width = query.shape
    require_shape("key", key, (batch, heads, "L", width), "Split the heads first")
    num_keys = reference_key.shape[-2]
    require_shape("subject_of_key", subject_of_key, (num_keys,), "Pass one subject per key")
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    shares = query.new_zeros(batch, num_queries, num_subjects, dtype=dtype)
    every_query = torch.arange(num_queries, device=query.device)
    every_key = torch.arange(num_keys, device=query.device)
    chunk = max(1, MOST_NUMBERS // (batch * heads * (key.shape[-2] + num_keys)))
    for group in groups:
        queries = every_query if group.queries is None else group.queries
        keys = every_key if group.keys is None else group.keys
        seen = reference_key.index_select(-2, keys).expand(batch, -1, -1, -1)
        both = torch.cat([key, seen], dim=-2).to(dtype).transpose(-2, -1)
        owner = torch.nn.functional.one_hot(subject_of_key[keys], num_subjects).to(shares)
        bias = group.bias(key.shape[-2])
        for rows, part in _chunks(queries, bias, chunk):
            logits = query.index_select(-2, rows).to(dtype) * width**-0.5 @ both
            probabilities = (logits if part is None else logits + part.to(logits)).softmax(dim=-1)
            of_references = probabilities[..., key.shape[-2] :].mean(dim=1)
            shares[:, rows] = of_references @ owner
    return shares


def _chunks(
    queries: torch.Tensor, bias: torch.Tensor | None, size: int
) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """`size` queries at a time, each with its rows of the bias."""
    rows = queries.split(size)
    if bias is None or bias.shape[0] == 1:
        return [(of_chunk, bias) for of_chunk in rows]
    return list(zip(rows, bias.split(size), strict=True))
