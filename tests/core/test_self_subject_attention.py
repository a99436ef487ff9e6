import pytest
import torch
from torch.nn import functional as F

from subject_diffusion_core.dreamtuner import (
    attend_in_groups,
    attention_share,
    expected_guidance,
    group_queries,
    interleaved_guidance,
    reference_attention_share,
    self_subject_attention,
)
from subject_diffusion_core.errors import ShapeError

B, H, Q, R, K = 2, 3, 12, 7, 8


def states(dtype=torch.float64, reference_batch=1):
    generator = torch.Generator().manual_seed(0)
    shapes = [(B, H, Q, K)] * 3 + [(reference_batch, H, R, K)] * 2
    return tuple(torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes)


def plain(query, key, value, bias=None):
    return F.scaled_dot_product_attention(query, key, value, bias)


def biased(query, key, value, reference_key, reference_value, weights):
    """The formula as it is written, log 0 included."""
    keys, values = (
        torch.cat([own, other.expand(B, -1, -1, -1)], dim=2)
        for own, other in ((key, reference_key), (value, reference_value))
    )
    bias = F.pad(weights.expand(Q, R).log(), (Q, 0))
    logits = query @ keys.transpose(-2, -1) * K**-0.5 + bias
    return logits.softmax(-1) @ values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(R,), (Q, R)])
def test_weight_zero_is_plain_bit_for_bit(dtype, shape):
    query, key, value, *reference = states(dtype)
    out = self_subject_attention(query, key, value, *reference, torch.zeros(shape))
    assert torch.equal(out, plain(query, key, value))


def test_the_picture_itself_as_reference_changes_nothing():
    query, key, value, *_ = states()
    for weights in (torch.ones(Q), torch.full((Q,), 3.0)):
        out = self_subject_attention(query, key, value, key, value, weights)
        assert torch.allclose(out, plain(query, key, value), atol=1e-12)


@pytest.mark.parametrize("shape", [(R,), (Q, R)])
@pytest.mark.parametrize("reference_batch", [1, B])
def test_dropped_keys_equal_the_log_bias(shape, reference_batch):
    inputs = states(reference_batch=reference_batch)
    generator = torch.Generator().manual_seed(1)
    weights = 3 * torch.rand(shape, generator=generator, dtype=torch.float64)
    weights = weights * (torch.rand(shape, generator=generator) > 0.4)
    out = self_subject_attention(*inputs, weights)
    assert bool(out.isfinite().all())
    assert torch.allclose(out, biased(*inputs, weights), atol=1e-12)


def test_minus_infinity_is_never_used():
    seen = []

    def attend(query, key, value, bias):
        seen.append(bias)
        return plain(query, key, value, bias)

    weights = torch.tensor([0.0, 1.0, 2.0, 0.0, 0.5, 0.0, 1.0])
    region = torch.rand(Q, 2).masked_fill(torch.rand(Q, 2) > 0.5, 0.0)
    owner = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    attend_in_groups(*states(torch.float32), group_queries(weights, region, owner), attend)
    assert seen
    assert all(bias is None or bool(bias.isfinite().all()) for bias in seen)


def test_no_bias_where_all_weights_are_one():
    (group,) = group_queries(torch.tensor([1.0, 0.0, 1.0]))
    assert group.log_weights is None and group.bias(5) is None
    assert group.keys is not None and group.keys.tolist() == [0, 2]
    (group,) = group_queries(torch.ones(3))
    assert group.keys is None


def test_a_weight_counts_a_key_so_often():
    query, key, value, reference_key, reference_value = states()
    out = self_subject_attention(
        query, key, value, reference_key, reference_value, torch.full((R,), 3.0)
    )
    keys, values = (x.repeat(1, 1, 3, 1) for x in (reference_key, reference_value))
    copies = self_subject_attention(query, key, value, keys, values, torch.ones(3 * R))
    assert torch.allclose(out, copies, atol=1e-12)


def test_values_by_hand():
    """Equal logits, own values 0 and values of the reference 1: omega R / (Q + omega R)."""
    zeros = torch.zeros(1, 1, 4, 2, dtype=torch.float64)
    mask = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    for omega in (0.5, 1.0, 3.0):
        out = self_subject_attention(
            zeros, zeros, zeros, zeros[:, :, :3], torch.ones_like(zeros[:, :, :3]), omega * mask
        )
        wanted = torch.full_like(zeros, omega * 1.5 / (4 + omega * 1.5))
        assert torch.allclose(out, wanted, atol=1e-15)


def test_regions_limit_the_queries():
    query, key, value, reference_key, reference_value = states(torch.float32)
    weights = torch.zeros(Q, R)
    weights[:4], weights[4:6, :3] = 2.0, 0.25
    out = self_subject_attention(query, key, value, reference_key, reference_value, weights)
    assert torch.equal(out[:, :, 6:], plain(query, key, value)[:, :, 6:])
    everywhere = self_subject_attention(
        query, key, value, reference_key, reference_value, torch.full((R,), 2.0)
    )
    assert torch.allclose(out[:, :, :4], everywhere[:, :, :4], atol=1e-6)
    few = self_subject_attention(
        query,
        key,
        value,
        reference_key[:, :, :3],
        reference_value[:, :, :3],
        torch.full((3,), 0.25),
    )
    assert torch.allclose(out[:, :, 4:6], few[:, :, 4:6], atol=1e-6)


def test_merged_by_logsumexp():
    """One softmax over both equals two attentions, weighted by their sums."""
    query, key, value, reference_key, reference_value = states()
    own = (query @ key.transpose(-2, -1) * K**-0.5).logsumexp(-1, keepdim=True)
    other = (query @ reference_key.transpose(-2, -1) * K**-0.5).logsumexp(-1, keepdim=True)
    share = torch.sigmoid(other + torch.tensor(3.0).log() - own)
    wanted = (1 - share) * plain(query, key, value) + share * plain(
        query, reference_key.expand(B, -1, -1, -1), reference_value.expand(B, -1, -1, -1)
    )
    out = self_subject_attention(
        query, key, value, reference_key, reference_value, torch.full((R,), 3.0)
    )
    assert torch.allclose(out, wanted, atol=1e-6)


def test_errors():
    inputs = states()
    with pytest.raises(ShapeError, match=r"reference_weights: expected shape \(7\), got \(3,\)"):
        self_subject_attention(*inputs, torch.ones(3))
    with pytest.raises(ValueError, match="reference_weights: expected numbers of 0 or more"):
        self_subject_attention(*inputs, -torch.ones(R))
    with pytest.raises(ShapeError, match="reference_value: expected shape"):
        self_subject_attention(*inputs[:4], inputs[4][:, :, 1:], torch.ones(R))


def test_guidance_by_hand():
    with_reference, text, negative = (torch.tensor(value) for value in (4.0, 2.0, 1.0))
    first = interleaved_guidance(with_reference, text, None, 3.0, 5.0, use_reference=True)
    second = interleaved_guidance(with_reference, None, negative, 3.0, 5.0, use_reference=False)
    assert first == 2 + 3 * 2 and second == 1 + 5 * 3
    mean = expected_guidance(with_reference, text, negative, 3.0, 5.0, 0.9)
    assert torch.allclose(mean, 0.9 * first + 0.1 * second)
    # as a correction of the prediction with text and reference
    correction = 0.9 * (3 - 1) * (with_reference - text) + 0.1 * (5 - 1) * (
        with_reference - negative
    )
    assert torch.allclose(mean, with_reference + correction)
    with pytest.raises(ValueError, match="pred_uncond_ref: expected the prediction"):
        interleaved_guidance(with_reference, text, None, 3.0, 5.0, use_reference=False)


@pytest.mark.parametrize("most", [2**24, 64, 1])
@pytest.mark.parametrize("per_query", [False, True])
def test_shares_are_columns_of_the_softmax(per_query, most, monkeypatch):
    """Also where only a few queries at a time are looked at."""
    monkeypatch.setattr(attention_share, "MOST_NUMBERS", most)
    query, key, _, reference_key, _ = states(reference_batch=1)
    generator = torch.Generator().manual_seed(2)
    weights = 3 * torch.rand(R, generator=generator, dtype=torch.float64)
    weights[1] = 0
    owner = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    regions = torch.ones(Q, 2, dtype=torch.float64)
    if per_query:
        regions = torch.rand(Q, 2, generator=generator, dtype=torch.float64)
        regions[:4, 0], regions[2:6, 1] = 0, 0
    groups = group_queries(weights, regions, owner) if per_query else group_queries(weights)
    shares = reference_attention_share(query, key, reference_key, groups, owner, 2)
    keys = torch.cat([key, reference_key.expand(B, -1, -1, -1)], dim=2)
    bias = F.pad((regions[:, owner] * weights).log(), (Q, 0))
    probabilities = (query @ keys.transpose(-2, -1) * K**-0.5 + bias).softmax(-1)[..., Q:]
    wanted = torch.stack([probabilities[..., owner == s].sum(-1).mean(1) for s in (0, 1)], -1)
    assert torch.allclose(shares, wanted, atol=1e-12)


def test_equal_logits_share_by_weight():
    """omega * R / (Q + omega * R), in each half precision."""
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        zeros = torch.zeros(B, H, Q, K, dtype=dtype)
        shares = reference_attention_share(
            zeros, zeros, zeros[:1], group_queries(torch.full((Q,), 3.0)), torch.zeros(Q).long(), 1
        )
        assert torch.allclose(shares, torch.full((B, Q, 1), 0.75))
    with pytest.raises(ShapeError, match="subject_of_key"):
        reference_attention_share(zeros, zeros, zeros, [], torch.zeros(2).long(), 1)
