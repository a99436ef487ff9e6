import math

import pytest
import torch

from subject_diffusion_core.box_fourier import (
    BoxFourierEmbedder,
    cell_position_features,
    grid_boxes_xyxy,
    patch_boxes_xyxy,
)
from subject_diffusion_core.errors import ShapeError


def test_values_and_order_by_hand():
    box = torch.tensor([0.1, 0.2, 0.5, 0.9])
    features = BoxFourierEmbedder(num_freqs=2, temperature=100.0)(box)
    expected = [
        function(frequency * coordinate)
        for frequency in (1.0, 10.0)  # 100^(0/2), 100^(1/2)
        for function in (math.sin, math.cos)
        for coordinate in (0.1, 0.2, 0.5, 0.9)
    ]
    assert torch.allclose(features, torch.tensor(expected), atol=1e-6)


def test_equals_diffusers():
    embeddings = pytest.importorskip("diffusers.models.embeddings")
    boxes = torch.rand(3, 2, 4)
    theirs = embeddings.get_fourier_embeds_from_boundingbox(8, boxes)
    assert torch.allclose(BoxFourierEmbedder()(boxes), theirs, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_boxes_are_embedded_in_float32(dtype):
    boxes = torch.rand(2, 4).to(dtype)
    features = BoxFourierEmbedder()(boxes)
    assert features.dtype == torch.float32
    assert torch.equal(features, BoxFourierEmbedder()(boxes.float()))


def test_gradient():
    boxes = torch.rand(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(BoxFourierEmbedder(num_freqs=2), boxes)


def test_has_no_state():
    assert not BoxFourierEmbedder().state_dict()


def test_wrong_shape_says_what_was_expected():
    with pytest.raises(ShapeError, match=r"boxes_xyxy: expected shape \(\.\.\., 4\), got \(2, 3\)"):
        BoxFourierEmbedder()(torch.zeros(2, 3))


def test_grid_is_row_major_and_tiles_the_square():
    boxes = grid_boxes_xyxy(2, 3)
    assert torch.allclose(boxes[4], torch.tensor([1 / 3, 1 / 2, 2 / 3, 1.0]))
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert torch.allclose(areas.sum(), torch.tensor(1.0))


def test_cell_features_are_those_of_the_cells_boxes():
    embedder = BoxFourierEmbedder()
    features = cell_position_features(2, 3, embedder)
    assert torch.allclose(features[0, 4], embedder(torch.tensor([1 / 3, 1 / 2, 2 / 3, 1.0])))


def test_patch_boxes_cover_the_centred_square():
    wide = torch.tensor([[[0.2, 0.4, 0.8, 0.6]]])  # 0.6 x 0.2: square 0.2 .. 0.8 in x and y
    boxes = patch_boxes_xyxy(wide, 4)[0, 0]
    expected = [
        [0.2, 0.2, 0.5, 0.5],
        [0.5, 0.2, 0.8, 0.5],
        [0.2, 0.5, 0.5, 0.8],
        [0.5, 0.5, 0.8, 0.8],
    ]
    assert torch.allclose(boxes, torch.tensor(expected), atol=1e-6)


def test_patch_boxes_need_a_square_grid():
    with pytest.raises(ValueError, match="num_patches: expected a square number, got 6"):
        patch_boxes_xyxy(torch.zeros(1, 1, 4), 6)
