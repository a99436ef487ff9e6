import pytest
import torch

from subject_diffusion_core.box_fourier import patch_boxes_xyxy
from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.grounding import GroundingNet, subject_strength_bias

B, N, P, C = 2, 3, 4, 5


@pytest.fixture
def net() -> GroundingNet:
    torch.manual_seed(0)
    return GroundingNet(C, 7, 6, P).eval()


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    valid = torch.tensor([[True, True, False], [True, False, False]])
    return torch.randn(B, N, P, C), valid, torch.rand(B, N, 4)


def test_key_contract(net):
    assert set(net.state_dict()) == {
        "linears_image.layernorm.weight", "linears_image.layernorm.bias",
        "linears_image.fc1.weight", "linears_image.fc1.bias",
        "linears_image.fc2.weight", "linears_image.fc2.bias",
        "null_image_feature", "null_position_feature",
    }  # fmt: skip
    assert net.null_image_feature.shape == (1, 1, P, C)
    assert net.null_position_feature.shape == (1, 1, P, 64)
    assert net.linears_image.layernorm.normalized_shape == (C + 64,)


@pytest.mark.parametrize(
    ("box_coordinates", "patch_positions", "position_dim"),
    [(True, False, 64), (False, True, 64), (True, True, 128), (False, False, 0)],
)
def test_position_options_set_the_width(inputs, box_coordinates, patch_positions, position_dim):
    net = GroundingNet(C, 7, 6, P, box_coordinates=box_coordinates, patch_positions=patch_positions)
    assert net.null_position_feature.shape == (1, 1, P, position_dim)
    assert net(*inputs).shape == (B, N * P, 7)


def test_box_features_come_before_patch_features(net):
    both = GroundingNet(C, 7, 6, P, patch_positions=True)
    boxes = torch.rand(1, 1, 4)
    features = both._position_features(boxes)
    assert torch.equal(features[..., :64], net._position_features(boxes))
    assert torch.equal(features[..., 64:], net.box_embedder(patch_boxes_xyxy(boxes, P)))


def test_token_positions_follow_the_finished_tokens(net, inputs):
    with_positions = GroundingNet(C, 7, 6, P, token_positions=True)
    with_positions.load_state_dict(net.state_dict())
    _, valid, boxes = inputs
    tokens = with_positions(*inputs)
    assert torch.equal(tokens[..., :7], net(*inputs))
    own = net.box_embedder(patch_boxes_xyxy(boxes, P))
    positions = tokens[..., 7:].unflatten(1, (N, P))
    assert torch.equal(positions[valid], own[valid])
    assert not positions[~valid].any()
    nothing = with_positions.null_tokens(2)
    assert torch.equal(nothing[..., :7], net.null_tokens(2)) and not nothing[..., 7:].any()
    assert with_positions.null_tokens(2, "zeros").shape == (1, 2 * P, 7 + 64)


def test_tokens_equal_the_formula_written_out(net, inputs):
    patch_embeds, _, boxes = inputs
    tokens = net(*inputs).unflatten(1, (N, P))
    row = torch.cat((patch_embeds[0, 1, 2], net.box_embedder(boxes[0, 1])))
    mlp = net.linears_image
    expected = mlp.fc2(torch.nn.functional.gelu(mlp.fc1(mlp.layernorm(row))))
    assert torch.allclose(tokens[0, 1, 2], expected, atol=1e-6)


def test_empty_slots_hold_the_null_tokens_whatever_they_contain(net, inputs):
    patch_embeds, valid, boxes = inputs
    patch_embeds[~valid] = float("nan")
    boxes[~valid] = float("nan")
    tokens = net(patch_embeds, valid, boxes).unflatten(1, (N, P))
    assert tokens.isfinite().all()
    assert torch.allclose(tokens[0, 2], net.null_tokens(1)[0], atol=1e-6)


def test_subject_order_only_permutes_the_tokens(net, inputs):
    order = [2, 0, 1]
    tokens = net(*inputs).unflatten(1, (N, P))
    permuted = net(*(tensor[:, order] for tensor in inputs)).unflatten(1, (N, P))
    assert torch.allclose(permuted, tokens[:, order], atol=1e-6)


def test_null_tokens_follow_the_rule(net):
    empty = net(torch.zeros(1, 2, P, C), torch.zeros(1, 2, dtype=torch.bool), torch.zeros(1, 2, 4))
    assert torch.allclose(net.null_tokens(2), empty, atol=1e-6)
    zeros = net.null_tokens(2, "zeros")
    assert zeros.shape == empty.shape and not zeros.any()


def test_null_features_learn(net, inputs):
    net(*inputs).square().sum().backward()
    assert net.null_image_feature.grad.abs().sum() > 0
    assert net.null_position_feature.grad.abs().sum() > 0


def test_bfloat16_parameters_give_bfloat16_tokens(net, inputs):
    assert net.to(torch.bfloat16)(*inputs).dtype == torch.bfloat16


def test_wrong_patch_width_names_the_encoder(net, inputs):
    _, valid, boxes = inputs
    with pytest.raises(
        ShapeError, match=r"patch_embeds: expected shape \(B, N, 4, 5\), got .*encoder"
    ):
        net(torch.zeros(B, N, P, C + 1), valid, boxes)


def test_wrong_number_of_boxes(net, inputs):
    with pytest.raises(ShapeError, match=r"subject_boxes_xyxy: expected shape \(2, 3, 4\)"):
        net(inputs[0], inputs[1], torch.zeros(B, N - 1, 4))


def test_strength_bias_is_the_logarithm_per_token():
    bias = subject_strength_bias(torch.tensor([[1.0, 2.0, 0.0]]), 2)
    expected = torch.tensor([[0.0, 0.0, 0.6931472, 0.6931472, -torch.inf, -torch.inf]])
    assert torch.allclose(bias, expected)


def test_negative_strength_is_refused():
    with pytest.raises(
        ValueError, match="subject_strengths: expected numbers of 0 or more, got -1"
    ):
        subject_strength_bias(torch.tensor([[1.0, -1.0]]), 2)


@pytest.mark.parametrize("patch_positions", [False, True])
@pytest.mark.parametrize("token_positions", [False, True])
def test_without_boxes_the_tokens_do_not_know_places(inputs, patch_positions, token_positions):
    options = {"patch_positions": patch_positions, "token_positions": token_positions}
    net = GroundingNet(C, 7, 6, P, **options).eval()
    patches, valid, boxes = inputs
    tokens = net(patches, valid, boxes, use_boxes=False)
    assert torch.equal(tokens, net(patches, valid, torch.rand(B, N, 4), use_boxes=False))
    null = net.null_position_feature.expand(B, N, -1, -1)
    image = torch.where(valid[:, :, None, None], patches, net.null_image_feature)
    by_hand = net.linears_image(torch.cat((image, null), dim=-1)).flatten(1, 2)
    torch.testing.assert_close(tokens[..., :7], by_hand)
    assert not tokens[..., 7:].any()
    with_boxes = net(*inputs)
    empty = (~valid).repeat_interleave(P, dim=1)
    assert torch.equal(tokens[empty], with_boxes[empty])
    assert not torch.allclose(tokens[~empty], with_boxes[~empty])
