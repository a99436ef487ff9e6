import math

import pytest
import torch

from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.gated_attention import GatedSelfAttention

B, Q, T, DIM, CONTEXT, HEADS, HEAD_DIM = 2, 6, 5, 8, 7, 2, 4


def make_layer(query_position_dim: int = 0, token_positions: bool = False) -> GatedSelfAttention:
    torch.manual_seed(0)
    layer = GatedSelfAttention(
        DIM, CONTEXT, HEADS, HEAD_DIM, query_position_dim, token_positions=token_positions
    )
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer.eval()


@pytest.fixture
def layer() -> GatedSelfAttention:
    return make_layer()


@pytest.fixture
def hidden_states() -> torch.Tensor:
    return torch.randn(B, Q, DIM)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randn(B, T, CONTEXT)


def test_gates_start_closed_bit_for_bit(hidden_states, tokens):
    untrained = GatedSelfAttention(DIM, CONTEXT, HEADS, HEAD_DIM)
    assert untrained.alpha_attn == 0 and untrained.alpha_dense == 0
    assert torch.equal(untrained(hidden_states, tokens), hidden_states)


@pytest.mark.parametrize("scale", [0.0, 0, torch.zeros(B, 1, 1), torch.zeros(())])
def test_scale_zero_is_the_base_bit_for_bit(layer, hidden_states, tokens, scale):
    assert torch.equal(layer(hidden_states, tokens, scale), hidden_states)


def test_same_keys_and_output_as_diffusers(layer, hidden_states, tokens):
    attention = pytest.importorskip("diffusers.models.attention")
    theirs = attention.GatedSelfAttentionDense(DIM, CONTEXT, HEADS, HEAD_DIM).eval()
    assert set(theirs.state_dict()) == set(layer.state_dict())
    theirs.load_state_dict(layer.state_dict())
    for layer.use_sdpa in (True, False):
        ours = layer(hidden_states, tokens)
        assert torch.allclose(ours, theirs(hidden_states, tokens), atol=1e-5, rtol=1e-6)


def test_double_precision_parity_is_exact_to_rounding(layer, hidden_states, tokens):
    attention = pytest.importorskip("diffusers.models.attention")
    theirs = attention.GatedSelfAttentionDense(DIM, CONTEXT, HEADS, HEAD_DIM).double().eval()
    theirs.load_state_dict(layer.double().state_dict())
    inputs = hidden_states.double(), tokens.double()
    assert torch.allclose(layer(*inputs), theirs(*inputs), atol=1e-12, rtol=1e-12)


def test_formula_written_out_for_one_head():
    torch.manual_seed(1)
    layer = GatedSelfAttention(3, 2, 1, 3)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x, g = torch.randn(1, 2, 3), torch.randn(1, 1, 2)
    joint = layer.norm1(torch.cat((x, layer.linear(g)), dim=1))
    attn = layer.attn
    logits = attn.to_q(joint) @ attn.to_k(joint).transpose(1, 2) / math.sqrt(3)
    attended = attn.to_out[0](logits.softmax(-1) @ attn.to_v(joint))[:, :2]
    x1 = x + 0.5 * layer.alpha_attn.tanh() * attended
    expected = x1 + 0.5 * layer.alpha_dense.tanh() * layer.ff(layer.norm2(x1))
    assert torch.allclose(layer(x, g, 0.5), expected, atol=1e-5)


def test_cached_tokens_equal_the_tokens(layer, hidden_states, tokens):
    cached = layer.cache_tokens(tokens)
    assert torch.equal(layer(hidden_states, cached), layer(hidden_states, tokens))


def test_cache_of_one_serves_a_whole_batch(layer, hidden_states, tokens):
    cached = layer.cache_tokens(tokens[:1])
    repeated = layer(hidden_states, tokens[:1].repeat(B, 1, 1))
    assert torch.allclose(layer(hidden_states, cached), repeated, atol=1e-6)


def test_order_of_the_tokens_does_not_matter(layer, hidden_states, tokens):
    order = torch.randperm(T)
    shuffled = layer(hidden_states, tokens[:, order])
    assert torch.allclose(shuffled, layer(hidden_states, tokens), atol=1e-5)


def test_scale_per_sample(layer, hidden_states, tokens):
    mixed = layer(hidden_states, tokens, torch.tensor([0.0, 0.7])[:, None, None])
    assert torch.equal(mixed[0], hidden_states[0])
    assert torch.allclose(mixed[1], layer(hidden_states, tokens, 0.7)[1], atol=1e-6)


@pytest.mark.parametrize("use_sdpa", [True, False])
def test_minus_infinity_removes_tokens(layer, hidden_states, tokens, use_sdpa):
    layer.use_sdpa = use_sdpa
    bias = torch.zeros(B, T)
    bias[:, 3:] = -torch.inf
    without = layer(hidden_states, tokens[:, :3])
    assert torch.allclose(layer(hidden_states, tokens, token_bias=bias), without, atol=1e-5)


@pytest.mark.parametrize("use_sdpa", [True, False])
def test_log_two_counts_tokens_twice(layer, hidden_states, tokens, use_sdpa):
    layer.use_sdpa = use_sdpa
    bias = torch.full((1, T), math.log(2.0))
    doubled = layer(hidden_states, torch.cat((tokens, tokens), dim=1))
    assert torch.allclose(layer(hidden_states, tokens, token_bias=bias), doubled, atol=1e-5)


def test_query_positions_start_without_effect(hidden_states, tokens):
    torch.manual_seed(0)
    with_positions = GatedSelfAttention(DIM, CONTEXT, HEADS, HEAD_DIM, query_position_dim=3)
    assert not with_positions.query_position.weight.any()
    assert "query_position.weight" in with_positions.state_dict()


def test_query_positions_are_added_after_the_norm(hidden_states, tokens):
    layer = make_layer(query_position_dim=3)
    positions = torch.randn(1, Q, 3)
    normed = layer.norm1(hidden_states) + layer.query_position(positions)
    cached = layer.cache_tokens(tokens)
    attn = layer.attn
    key = torch.cat((attn.split_heads(attn.to_k(normed)), cached.key), dim=2)
    value = torch.cat((attn.split_heads(attn.to_v(normed)), cached.value), dim=2)
    logits = attn.split_heads(attn.to_q(normed)) @ key.transpose(-2, -1) / math.sqrt(HEAD_DIM)
    attended = attn.merge_heads(logits.softmax(-1) @ value)
    x1 = hidden_states + layer.alpha_attn.tanh() * attended
    expected = x1 + layer.alpha_dense.tanh() * layer.ff(layer.norm2(x1))
    ours = layer(hidden_states, tokens, query_positions=positions)
    assert torch.allclose(ours, expected, atol=1e-5)


def test_token_positions_take_the_way_of_the_queries(tokens):
    layer = make_layer(query_position_dim=3, token_positions=True)
    positions = torch.randn(B, T, 3)
    normed = layer.norm1(layer.linear(tokens)) + layer.query_position(positions)
    cached = layer.cache_tokens(torch.cat((tokens, positions), dim=-1))
    assert torch.allclose(cached.key, layer.attn.split_heads(layer.attn.to_k(normed)), atol=1e-6)
    assert torch.allclose(cached.value, layer.attn.split_heads(layer.attn.to_v(normed)), atol=1e-6)


def test_token_positions_of_zero_change_nothing(tokens):
    with_positions = make_layer(query_position_dim=3, token_positions=True)
    without = make_layer(query_position_dim=3)
    cached = with_positions.cache_tokens(torch.nn.functional.pad(tokens, (0, 3)))
    assert torch.allclose(cached.key, without.cache_tokens(tokens).key, atol=1e-6)


def test_token_positions_need_query_positions():
    with pytest.raises(ValueError, match="token_positions: expected query_position_dim > 0"):
        make_layer(token_positions=True)


def test_tokens_without_their_positions(hidden_states, tokens):
    layer = make_layer(query_position_dim=3, token_positions=True)
    with pytest.raises(ShapeError, match=r"grounding_tokens: expected shape \(B, T, 10\)"):
        layer(hidden_states, tokens, query_positions=torch.zeros(1, Q, 3))


def test_gradients_of_gates_and_inputs():
    torch.manual_seed(0)
    layer = GatedSelfAttention(4, 3, 2, 2).double()
    x = torch.randn(1, 2, 4, dtype=torch.float64, requires_grad=True)
    g = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
    gates = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.3, -0.2)]

    def run(x, g, alpha_attn, alpha_dense):
        gates = {"alpha_attn": alpha_attn, "alpha_dense": alpha_dense}
        return torch.func.functional_call(layer, gates, (x, g))

    assert torch.autograd.gradcheck(run, (x, g, *gates))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_half_and_close(layer, hidden_states, tokens, dtype):
    exact = layer(hidden_states, tokens)
    half = layer.to(dtype)(hidden_states.to(dtype), tokens.to(dtype))
    assert half.dtype == dtype
    assert (half.float() - exact).abs().max() < 0.25 * exact.abs().max()


def test_missing_query_positions(hidden_states, tokens):
    with pytest.raises(ShapeError, match=r"query_positions: expected .*B or 1, Q, 3.* got None"):
        make_layer(query_position_dim=3)(hidden_states, tokens)


def test_unwanted_query_positions(layer, hidden_states, tokens):
    with pytest.raises(ShapeError, match="query_positions: expected None, got shape"):
        layer(hidden_states, tokens, query_positions=torch.zeros(1, Q, 3))


def test_tokens_of_another_checkpoint(layer, hidden_states):
    with pytest.raises(ShapeError, match=r"grounding_tokens: expected shape \(B, T, 7\)"):
        layer(hidden_states, torch.zeros(B, T, CONTEXT + 1))


def test_tokens_of_another_batch(layer, hidden_states):
    with pytest.raises(ShapeError, match="grounding_tokens: expected a batch of 1 or 2, got 3"):
        layer(hidden_states, torch.zeros(3, T, CONTEXT))


def test_bias_of_wrong_length(layer, hidden_states, tokens):
    with pytest.raises(ShapeError, match=r"token_bias: expected shape \(B, 5\), got \(2, 4\)"):
        layer(hidden_states, tokens, token_bias=torch.zeros(B, T - 1))
