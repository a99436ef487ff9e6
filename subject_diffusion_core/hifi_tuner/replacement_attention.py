# Shapes: B samples, H heads, Q latent positions, K width of a head, L vectors of a text.
"""Cross-attention in which all words but the replaced one stay where they are: HiFi Tuner algorithm
3, after prompt-to-prompt."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ..errors import ShapeError, require_shape


def two_call_attention(
    query_source: torch.Tensor,
    key_source: torch.Tensor,
    query_target: torch.Tensor,
    key_target: torch.Tensor,
    value_target: torch.Tensor,
    kept: torch.Tensor,
    mapper: torch.Tensor | None = None,
) -> torch.Tensor:
    """The target's attention with the source's probabilities for the words that are kept.

    P_source M v_target over the kept columns + P_target v_target over the free ones: two calls of
    any attention kernel, without the maps themselves. Rows need not sum to 1, as in the paper.

    Args:
        query_source, query_target: (B, H, Q, K).
        key_source: (B, H, L_source, K).
        key_target, value_target: (B, H, L_target, K).
        kept: (L_source,) bool, True = the column keeps the source's probabilities.
        mapper: (L_source, L_target), the share of each source column that each target column gets;
            None = columns map to themselves.

    Returns:
        (B, H, Q, K). Free columns of the target are those that no kept column maps to.

    >>> q, k, v = (torch.randn(1, 1, 3, 4) for _ in range(3))
    >>> kept = torch.ones(3, dtype=torch.bool)
    >>> own = F.scaled_dot_product_attention(q, k, v)
    >>> torch.allclose(two_call_attention(q, k, q, k, v, kept), own, atol=1e-6)
    True
    """
    length_source, length_target = key_source.shape[-2], key_target.shape[-2]
    require_shape("kept", kept, (length_source,), "Pass a flag for each column of the source")
    if mapper is None:
        if length_source != length_target:
            raise ShapeError(
                f"mapper: expected one for texts of {length_source} and {length_target} vectors, "
                "got none. Pass which columns map to which."
            )
        mapper = torch.eye(length_source)
    require_shape("mapper", mapper, (length_source, length_target), "Pass a share for each pair")
    shares = mapper.to(value_target) * kept.to(value_target)[:, None]
    free = (shares == 0).all(dim=0).to(value_target)
    from_source = F.scaled_dot_product_attention(query_source, key_source, shares @ value_target)
    own = F.scaled_dot_product_attention(query_target, key_target, value_target * free[:, None])
    return from_source + own
