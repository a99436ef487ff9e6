"""Cells of boxes, the joint softmax, shapes and errors."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.ip_attention import (
    FullFaceProjection,
    GroundingResampler,
    ImageProjection,
    PerceiverResampler,
    box_cells,
    joint_image_attention,
    looked_at_cells,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_cells_of_boxes_by_hand() -> None:
    boxes = torch.tensor(
        [[0.0, 0.0, 1.0, 1.0], [0.3, 0.5, 0.5, 0.9], [0.2, 0.2, 0.2, 0.9], [0.26, 0, 0.27, 0.1]]
    )
    cells = box_cells(boxes, height=2, width=4).reshape(4, 2, 4).int().tolist()
    assert cells[0] == [[1, 1, 1, 1], [1, 1, 1, 1]]
    assert cells[1] == [[0, 0, 0, 0], [0, 1, 0, 0]]
    assert cells[2] == [[0, 0, 0, 0], [0, 0, 0, 0]]  # as wide as nothing
    assert cells[3] == [[0, 1, 0, 0], [0, 0, 0, 0]]  # thinner than a cell


def test_cells_flip_with_their_boxes() -> None:
    boxes = torch.tensor([[0.1, 0.3, 0.45, 0.7]])
    flipped = torch.tensor([[0.55, 0.3, 0.9, 0.7]])
    cells = box_cells(boxes, 6, 10).reshape(6, 10)
    assert torch.equal(cells.flip(1), box_cells(flipped, 6, 10).reshape(6, 10))


def test_apart_subjects_do_not_compete() -> None:
    query, key, value = random(2, 2, 6, 4), random(2, 2, 6, 4, seed=1), random(2, 2, 6, 4, seed=2)
    cells = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0]]).bool()
    got = joint_image_attention(query, key, value, cells, torch.tensor([1.0, 0.5]))
    for rows, tokens, scale in ((slice(0, 2), slice(0, 3), 1.0), (slice(2, 4), slice(3, 6), 0.5)):
        alone = F.scaled_dot_product_attention(
            query[:, :, rows], key[:, :, tokens], value[:, :, tokens]
        )
        assert torch.allclose(got[:, :, rows], scale * alone, atol=1e-6)
    assert not got[:, :, 4:].any()


def test_overlapping_subjects_share_one_softmax() -> None:
    query, key, value = random(1, 1, 2, 4), random(1, 1, 4, 4, seed=1), random(1, 1, 4, 4, seed=2)
    scales = torch.tensor([0.25, 2.0])
    got = joint_image_attention(query, key, value, torch.ones(2, 2).bool(), scales)
    probabilities = (query @ key.mT / 2).softmax(dim=-1)
    wanted = (probabilities * scales.repeat_interleave(2)) @ value
    assert torch.allclose(got, wanted, atol=1e-6)


def test_cells_may_differ_within_a_batch() -> None:
    query, key, value = random(2, 1, 3, 4), random(2, 1, 4, 4, seed=1), random(2, 1, 4, 4, seed=2)
    cells = torch.tensor([[[1, 0, 0], [0, 1, 0]], [[1, 1, 1], [0, 1, 0]]]).bool()
    got = joint_image_attention(query, key, value, cells)
    for index in range(2):
        sample = slice(index, index + 1)
        alone = joint_image_attention(query[sample], key[sample], value[sample], cells[index])
        assert torch.allclose(got[sample], alone, atol=1e-6)


def test_gradients_reach_tokens() -> None:
    key = random(1, 1, 4, 4, seed=1).double().requires_grad_()
    query, value = random(1, 1, 3, 4).double(), random(1, 1, 4, 4, seed=2).double()
    cells = torch.tensor([[1, 0, 0], [1, 1, 0]]).bool()
    assert torch.autograd.gradcheck(lambda k: joint_image_attention(query, k, value, cells), key)


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(
        ShapeError, match=r"subject_boxes_xyxy: expected shape \(N, 4\), got \(4,\)"
    ):
        box_cells(torch.zeros(4), 2, 2)
    query, tokens = random(1, 1, 3, 4), random(1, 1, 5, 4)
    with pytest.raises(
        ValueError, match="key: expected equally many keys and values for each of 2"
    ):
        joint_image_attention(query, tokens, tokens, torch.ones(2, 3).bool())
    with pytest.raises(ShapeError, match="query: expected shape"):
        joint_image_attention(query, tokens, tokens, torch.ones(2, 4).bool())
    with pytest.raises(ShapeError, match=r"image_embeds: expected shape \(N, 8\), got \(2, 9\)"):
        ImageProjection(8, 6)(torch.zeros(2, 9))
    for network in (FullFaceProjection(8, 6), PerceiverResampler(32, 1, 16, 2, 4, 8, 6)):
        with pytest.raises(ShapeError, match=r"hidden_states: expected shape \(N, L, 8\)"):
            network(torch.zeros(2, 5, 9))
    grounding = GroundingResampler(32, 1, 16, 2, 4, 8, 6, label_dim=5)
    with pytest.raises(ShapeError, match=r"label_embeds: expected shape \(2, 5\), got \(1, 5\)"):
        grounding(torch.zeros(2, 5, 8), torch.zeros(2, 4), torch.zeros(1, 5))


def test_dropped_grounding_ignores_boxes_and_labels() -> None:
    resampler = GroundingResampler(32, 2, 16, 2, 4, 8, 6, label_dim=5).eval()
    states = random(2, 5, 8)
    nothing = resampler(states, torch.zeros(2, 4), torch.zeros(2, 5), grounded=False)
    something = resampler(states, random(2, 4).abs(), random(2, 5), grounded=False)
    assert torch.equal(nothing, something)
    assert not torch.equal(nothing, resampler(states, torch.zeros(2, 4), torch.zeros(2, 5)))


def test_cells_that_look_at_a_label() -> None:
    attention = torch.tensor([[0.2, 0.4, 0.31, 0.29], [0.5, 0.5, 0.5, 0.5]])
    wanted = [[False, True, True, False], [False] * 4]
    assert looked_at_cells(attention).tolist() == wanted
