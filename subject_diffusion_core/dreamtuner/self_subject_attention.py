# Shapes: B batch, H heads, Q positions of the picture, L own keys, R keys of references, K width of
#         a head, S subjects, q queries and r keys of a group.
"""Self-subject-attention: a picture's self-attention that also sees the keys of references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from ..errors import require_shape

# query (B, H, q, K), key and value (B, H, l, K), bias of the logits (1 or q, l) or None; gives
# (B, H, q, K)
Attend = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None],
    torch.Tensor,
]


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryGroup:
    """Queries that see the same keys of the references.

    Attributes:
        queries: (q,) long, which of the Q positions; None = all of them.
        keys: (r,) long, which of the R keys they see, at least one; None = all of them.
        log_weights: (1, r) or (q, r), to be added to the logits of these keys; None = zeros.
    """

    queries: torch.Tensor | None
    keys: torch.Tensor | None
    log_weights: torch.Tensor | None

    def bias(self, num_own_keys: int) -> torch.Tensor | None:
        """(1 or q, L + r) for the logits of the picture's own keys and these; None = zeros."""
        if self.log_weights is None:
            return None
        return F.pad(self.log_weights, (num_own_keys, 0))


def group_queries(
    key_weights: torch.Tensor,
    region_weights: torch.Tensor | None = None,
    subject_of_key: torch.Tensor | None = None,
) -> list[QueryGroup]:
    """Sort the queries by the keys that they see; queries that see none are in no group.

    A query at position q sees key r with weight region_weights[q, subject_of_key[r]] *
    key_weights[r]. Keys of weight 0 are left out, never masked, so no logit is -inf, and where all
    weights are 1, no bias is needed at all.

    Args:
        key_weights: (R,) >= 0.
        region_weights: (Q, S) >= 0, how much each subject acts at a position; None = 1 everywhere.
        subject_of_key: (R,) long, the subject of every key; None where `region_weights` is.

    >>> (group,) = group_queries(torch.tensor([0.0, 2.0]))
    >>> group.keys, group.log_weights
    (tensor([1]), tensor([[0.6931]]))
    """
    if region_weights is None or subject_of_key is None:
        seen = key_weights > 0
        return [_make_group(None, seen, key_weights[None])] if bool(seen.any()) else []
    acting = region_weights > 0
    patterns, pattern_of_query = acting.unique(dim=0, return_inverse=True)
    groups = []
    for index, pattern in enumerate(patterns):
        seen = (key_weights > 0) & pattern[subject_of_key]
        if not bool(seen.any()):
            continue
        queries = (pattern_of_query == index).nonzero()[:, 0]
        regions = region_weights[queries]
        if bool((regions == regions[:1]).all()):
            regions = regions[:1]
        weights = regions[:, subject_of_key] * key_weights
        everywhere = len(queries) == len(region_weights)
        groups.append(_make_group(None if everywhere else queries, seen, weights))
    return groups


def _make_group(
    queries: torch.Tensor | None, seen: torch.Tensor, weights: torch.Tensor
) -> QueryGroup:
    """`seen` (R,) bool; `weights` (1 or q, R), above 0 wherever `seen`."""
    weights = weights[:, seen]
    return QueryGroup(
        queries=queries,
        keys=None if bool(seen.all()) else seen.nonzero()[:, 0],
        log_weights=None if bool((weights == 1).all()) else weights.log(),
    )


def attend_in_groups(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    reference_key: torch.Tensor,
    reference_value: torch.Tensor,
    groups: Sequence[QueryGroup],
    attend: Attend,
) -> torch.Tensor:
    """Attention in which each group also sees its keys of the references.

    Positions are the last axis but one, so heads may be split, (B, H, Q, K), or not, (B, Q, H*K);
    `attend` gets what it is called with. Queries in no group get the plain attention, bit for bit.

    Args:
        reference_key, reference_value: of R keys; batch B, or 1 for all samples.
    """
    if not any(group.queries is None for group in groups):
        out = attend(query, key, value, None)
    for group in groups:
        keys, values = (
            torch.cat([own, _of_batch(_pick(of_references, group.keys), own)], dim=-2)
            for own, of_references in ((key, reference_key), (value, reference_value))
        )
        bias = group.bias(key.shape[-2])
        bias = None if bias is None else bias.to(query)
        attended = attend(_pick(query, group.queries), keys, values, bias)
        out = attended if group.queries is None else out.index_copy(-2, group.queries, attended)
    return out


def _pick(states: torch.Tensor, positions: torch.Tensor | None) -> torch.Tensor:
    return states if positions is None else states.index_select(-2, positions)


def _of_batch(states: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return states.expand(like.shape[0], *states.shape[1:]).to(like)


def self_subject_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    reference_key: torch.Tensor,
    reference_value: torch.Tensor,
    reference_weights: torch.Tensor,
) -> torch.Tensor:
    """DreamTuner eq. 3: softmax(q [k, k_r]^T / sqrt(K) + [0, log w]) [v, v_r], one softmax.

    Args:
        query: (B, H, Q, K) of the picture.
        key, value: (B, H, L, K) of the picture.
        reference_key, reference_value: (B or 1, H, R, K), several references one after the other.
        reference_weights: (R,) or (Q, R), w = omega_ref * mask (* region) >= 0; 0: the key is not
            seen. A weight n counts a key n times.

    Returns:
        (B, H, Q, K); the plain attention, bit for bit, where all weights are 0.

    >>> zeros, ones = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    >>> self_subject_attention(zeros, zeros, zeros, zeros, ones, torch.tensor([3.0]))
    tensor([[[[0.7500, 0.7500]]]])
    """
    batch, heads, num_queries, width = query.shape
    require_shape("key", key, (batch, heads, "L", width), "Split the heads first")
    require_shape("value", value, key.shape, "Pass one value per key")
    num_keys = reference_key.shape[-2]
    reference_batch = 1 if reference_key.shape[0] == 1 else batch
    shape = (reference_batch, heads, num_keys, width)
    require_shape("reference_key", reference_key, shape, "Split the heads first")
    require_shape("reference_value", reference_value, shape, "Pass one value per key")
    per_query = reference_weights.ndim == 2
    expected = (num_queries, num_keys) if per_query else (num_keys,)
    require_shape("reference_weights", reference_weights, expected, "Pass one weight per key")
    if not bool((reference_weights >= 0).all()):
        raise ValueError(
            "reference_weights: expected numbers of 0 or more, got others. Use 0 for keys that "
            "are not seen."
        )
    ones, every = torch.ones_like(reference_weights[0]), torch.arange(num_keys, device=query.device)
    groups = (
        group_queries(ones, reference_weights, every)
        if per_query
        else group_queries(reference_weights)
    )
    return attend_in_groups(
        query, key, value, reference_key, reference_value, groups, F.scaled_dot_product_attention
    )
