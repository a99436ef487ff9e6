"""Two calls of attention in place of stored maps."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.hifi_tuner import two_call_attention

GENERATOR = torch.Generator().manual_seed(0)


def states(length: int) -> torch.Tensor:
    return torch.randn(2, 3, length, 8, dtype=torch.float64, generator=GENERATOR)


QUERY_SOURCE, QUERY_TARGET = states(10), states(10)
KEY_SOURCE, KEY_TARGET, VALUE = states(6), states(6), states(6)


def probabilities(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    return (query @ key.transpose(-2, -1) / 8**0.5).softmax(dim=-1)


def attention(kept: list[bool], mapper: torch.Tensor | None = None, **changes: torch.Tensor):
    arguments = {
        "query_source": QUERY_SOURCE,
        "key_source": KEY_SOURCE,
        "query_target": QUERY_TARGET,
        "key_target": KEY_TARGET,
        "value_target": VALUE,
        **changes,
    }
    return two_call_attention(**arguments, kept=torch.tensor(kept), mapper=mapper)


def test_equal_to_explicit_maps() -> None:
    kept = [True, True, False, True, False, True]
    maps = torch.where(
        torch.tensor(kept),
        probabilities(QUERY_SOURCE, KEY_SOURCE),
        probabilities(QUERY_TARGET, KEY_TARGET),
    )
    assert torch.allclose(attention(kept), maps @ VALUE, atol=1e-12)


def test_all_free_is_plain_attention() -> None:
    plain = F.scaled_dot_product_attention(QUERY_TARGET, KEY_TARGET, VALUE)
    assert torch.allclose(attention([False] * 6), plain, atol=1e-12)


def test_all_kept_of_the_same_row_is_plain_attention() -> None:
    same = attention([True] * 6, query_source=QUERY_TARGET, key_source=KEY_TARGET)
    plain = F.scaled_dot_product_attention(QUERY_TARGET, KEY_TARGET, VALUE)
    assert torch.allclose(same, plain, atol=1e-12)


def test_one_token_becomes_two() -> None:
    """ "cat" -> "hot dog": its column's probability is shared, what follows moves by one."""
    key_target, value = states(7), states(7)
    mapper = torch.zeros(6, 7, dtype=torch.float64)
    for source, targets in enumerate([(0,), (1,), (2, 3), (4,), (5,), (6,)]):
        mapper[source, list(targets)] = 1 / len(targets)
    kept = [True, True, False, True, True, False]
    result = attention(kept, mapper, key_target=key_target, value_target=value)
    source = probabilities(QUERY_SOURCE, KEY_SOURCE)
    target = probabilities(QUERY_TARGET, key_target)
    columns = [source[..., 0], source[..., 1], target[..., 2], target[..., 3]]
    columns += [source[..., 3], source[..., 4], target[..., 6]]
    assert torch.allclose(result, torch.stack(columns, dim=-1) @ value, atol=1e-12)


def test_bad_shapes() -> None:
    with pytest.raises(ShapeError, match="kept: expected shape"):
        attention([True] * 5)
    with pytest.raises(ShapeError, match="mapper: expected one for texts of 6 and 7 vectors"):
        attention([True] * 6, key_target=states(7), value_target=states(7))
    with pytest.raises(ShapeError, match="mapper: expected shape"):
        attention([True] * 6, torch.eye(5))
