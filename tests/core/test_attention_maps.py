import pytest
import torch

from subject_diffusion_core.attention_maps import token_column_probabilities
from subject_diffusion_core.errors import ShapeError

POSITIONS = torch.tensor([[1, 4], [0, -1]])


def test_columns_of_the_whole_softmax():
    query, key = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4)
    whole = (query @ key.transpose(-2, -1) / 2).softmax(-1)  # 2 = sqrt(4)
    columns = token_column_probabilities(query, key, POSITIONS)
    assert torch.allclose(columns[0], whole[0][..., [1, 4]], atol=1e-6)
    assert torch.allclose(columns[1, ..., 0], whole[1][..., 0], atol=1e-6)


def test_all_columns_sum_to_one():
    query, key = torch.randn(1, 2, 5, 4), torch.randn(1, 2, 3, 4)
    columns = token_column_probabilities(query, key, torch.tensor([[0, 1, 2]]), scale=0.7)
    assert torch.allclose(columns.sum(-1), torch.ones(1, 2, 5), atol=1e-6)


def test_huge_logits_stay_finite():
    columns = token_column_probabilities(
        torch.full((1, 1, 2, 4), 100.0), torch.full((1, 1, 3, 4), 100.0), torch.tensor([[1]])
    )
    assert torch.allclose(columns, torch.full_like(columns, 1 / 3), atol=2e-3)


def test_half_precision_is_computed_in_float32():
    query, key = torch.randn(1, 1, 2, 4).bfloat16(), torch.randn(1, 1, 3, 4).bfloat16()
    assert token_column_probabilities(query, key, torch.tensor([[1]])).dtype == torch.float32


def test_gradient():
    query = torch.randn(2, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    key = torch.randn(2, 1, 5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda q, k: token_column_probabilities(q, k, POSITIONS), (query, key)
    )


def test_unsplit_heads():
    with pytest.raises(ShapeError, match=r"query: expected shape \(B, H, Q, K\), got \(2, 5, 4\)"):
        token_column_probabilities(torch.zeros(2, 5, 4), torch.zeros(2, 5, 4), POSITIONS)
