# Shapes: B samples, H heads, Q latent positions, K width of a head, L vectors of a text.
"""Cross-attention in which all words but the replaced one stay where they are: HiFi Tuner algorithm
3, after prompt-to-prompt."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher

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
    wanted = (key_source.shape[-2],)
    require_shape("kept", kept, wanted, "Pass a flag for each column of the source")
    from_source, own = split_values(value_target, kept, mapper)
    return F.scaled_dot_product_attention(
        query_source, key_source, from_source
    ) + F.scaled_dot_product_attention(query_target, key_target, own)


def split_values(
    value_target: torch.Tensor, kept: torch.Tensor, mapper: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The values (..., L_target, K) for the source's probabilities, (..., L_source, K), and those
    for the target's own, (..., L_target, K): the arguments of `two_call_attention` say the rest.

    >>> values = torch.tensor([[1.0], [2.0]])
    >>> from_source, own = split_values(values, torch.tensor([True, False]))
    >>> from_source.flatten().tolist(), own.flatten().tolist()
    ([1.0, 0.0], [0.0, 2.0])
    """
    length_source, length_target = kept.shape[0], value_target.shape[-2]
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
    return shares @ value_target, value_target * free[:, None]


def token_mapper(
    source: Sequence[Hashable], target: Sequence[Hashable], num_free_last: int = 0
) -> torch.Tensor:
    """(L_source, L_target): 1 where a token of the source stands for one of the target.

    Equal tokens map to each other in their order, also where words of different length stand
    between; what is new in the target has a column of zeros.

    Args:
        num_free_last: so many columns at the end of the target belong to a tuned embedding, and map
            to nothing.

    >>> token_mapper("aXc", "aYZc").tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    mapper = torch.zeros(len(source), len(target))
    for first, second, size in SequenceMatcher(
        None, source, target, autojunk=False
    ).get_matching_blocks():
        for step in range(size):
            mapper[first + step, second + step] = 1.0
    if num_free_last > 0:
        mapper[:, -num_free_last:] = 0.0
    return mapper
