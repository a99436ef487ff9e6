import pytest
import torch

from subject_diffusion_core.attention_maps import (
    map_box_iou,
    normalize_maps,
    resize_maps,
    token_column_probabilities,
)
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


def test_iou_of_a_map_by_hand():
    """2 x 4 cells; the box covers the centres of the left three columns of the upper row."""
    box = torch.tensor([0.0, 0.0, 0.7, 0.5])
    heat = torch.tensor([[0.5, 0.9, 0.1, 0.1], [0.6, 0.1, 0.1, 0.1]])
    # stretched: 0.5, 1, 0, 0 / 0.625, 0, 0, 0
    assert map_box_iou(heat, box, 0.5).item() == pytest.approx(2 / 4)
    assert map_box_iou(heat, box, 0.6).item() == pytest.approx(1 / 4)
    assert map_box_iou(heat, box, 0.7).item() == pytest.approx(1 / 3)


def test_iou_of_perfect_disjoint_and_flat_maps():
    box = torch.tensor([0.5, 0.25, 1.0, 0.75])
    inside = torch.zeros(8, 8)
    inside[2:6, 4:] = 0.01
    assert map_box_iou(inside, box).item() == 1.0
    assert map_box_iou(-inside, box).item() == pytest.approx(0.0)
    assert map_box_iou(torch.full((8, 8), 0.3), box).item() == 0.0


def test_one_box_per_map():
    maps = torch.rand(2, 3, 4, 4)
    boxes = torch.rand(2, 3, 4)
    together = map_box_iou(maps, boxes)
    assert together[1, 2] == map_box_iou(maps[1, 2], boxes[1, 2])
    with pytest.raises(ShapeError, match=r"boxes_xyxy: expected shape \(2, 3, 4\)"):
        map_box_iou(maps, boxes[0])


def test_resized_maps_keep_their_place():
    maps = torch.zeros(2, 1, 4, 4)
    maps[1, 0, 0, 3] = 1.0
    resized = resize_maps(maps, 8, 8)
    assert resized.shape == (2, 1, 8, 8)
    assert resized[0].abs().max() == 0.0
    assert resized[1, 0, 0, 7] == 1.0
    assert resized[1, 0, 4:, :4].abs().max() == 0.0


def test_every_map_is_stretched_by_itself():
    maps = torch.tensor([[[0.0, 2.0]], [[0.1, 0.2]]])
    assert normalize_maps(maps).tolist() == [[[0.0, 1.0]], [[0.0, 1.0]]]
