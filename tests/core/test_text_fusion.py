import pytest
import torch

from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.text_fusion import (
    ImageEmbedProjector,
    blend_towards_label,
    fuse_placeholder_embeddings,
)

POSITIONS = torch.tensor([[1, 4], [2, -1]])
VALID = torch.tensor([[True, True], [True, False]])


def test_projector_key_contract():
    assert set(ImageEmbedProjector(6, 8, 4).state_dict()) == {
        "layernorm.weight", "layernorm.bias", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias",
    }  # fmt: skip


def test_only_placeholders_of_valid_subjects_change():
    token_embeds, projected = torch.randn(2, 5, 3), torch.randn(2, 2, 3)
    fused = fuse_placeholder_embeddings(token_embeds, projected, POSITIONS, VALID)
    expected = token_embeds.clone()
    expected[0, 1], expected[0, 4], expected[1, 2] = (
        projected[0, 0],
        projected[0, 1],
        projected[1, 0],
    )
    assert torch.equal(fused, expected)


def test_input_is_not_modified():
    token_embeds = torch.zeros(2, 5, 3)
    fuse_placeholder_embeddings(token_embeds, torch.ones(2, 2, 3), POSITIONS, VALID)
    assert not token_embeds.any()


def test_subject_order_does_not_matter():
    token_embeds, projected = torch.randn(2, 5, 3), torch.randn(2, 2, 3)
    fused = fuse_placeholder_embeddings(token_embeds, projected, POSITIONS, VALID)
    flipped = fuse_placeholder_embeddings(
        token_embeds, projected.flip(1), POSITIONS.flip(1), VALID.flip(1)
    )
    assert torch.equal(fused, flipped)


def test_gradient():
    token_embeds = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    projected = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda a, b: fuse_placeholder_embeddings(a, b, POSITIONS, VALID), (token_embeds, projected)
    )


def test_keeps_the_dtype_of_the_tokens():
    fused = fuse_placeholder_embeddings(
        torch.zeros(2, 5, 3, dtype=torch.bfloat16), torch.ones(2, 2, 3), POSITIONS, VALID
    )
    assert fused.dtype == torch.bfloat16


def test_placeholder_that_was_cut_off():
    with pytest.raises(
        ValueError, match=r"placeholder_positions: expected 0 to 3 .* got \[1, 4, 2\]"
    ):
        fuse_placeholder_embeddings(torch.zeros(2, 4, 3), torch.zeros(2, 2, 3), POSITIONS, VALID)


def test_projector_of_another_base():
    with pytest.raises(ShapeError, match=r"projected: expected shape \(2, N, 3\), got \(2, 2, 4\)"):
        fuse_placeholder_embeddings(torch.zeros(2, 5, 3), torch.zeros(2, 2, 4), POSITIONS, VALID)


def test_blend_ends():
    projected, label = torch.randn(3), torch.randn(3)
    assert torch.equal(blend_towards_label(projected, label, 0.0), label)
    assert torch.allclose(blend_towards_label(projected, label, 1.0), projected)
