"""Arithmetic that was left out of the count, and small deltas that bf16 rounded away."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from training.loop.step_cost import count_flops, nothing_computed
from training.networks.low_rank import LowRankLinear, add_low_rank, merged


def test_attention_is_counted() -> None:
    def attend() -> None:
        query = torch.zeros(2, 4, 64, 16, requires_grad=True)
        F.scaled_dot_product_attention(query, query, query).sum().backward()

    with nothing_computed():
        products = 2 * 2 * 4 * 64 * 64 * 16  # of one of the matrix products
        assert count_flops(attend) == products * (2 + 5)


def test_a_small_delta_is_not_rounded_away_in_bf16() -> None:
    """W x + B (A x): what training computes is what the export merges, at low precision, too."""
    torch.manual_seed(0)
    parent = nn.Module()
    parent.q_proj = nn.Linear(256, 256)
    add_low_rank(parent, 8)
    layer = parent.q_proj
    assert isinstance(layer, LowRankLinear)
    with torch.no_grad():
        for part in layer.parametrizations["weight"][0].parameters():
            part.copy_(torch.randn_like(part) * 0.006)
        layer.weight.data = layer.weight.data.bfloat16().float()
    plain = merged(parent.state_dict())["q_proj.weight"]
    inputs = torch.randn(64, 256)
    delta = inputs @ (plain - layer.weight).T
    weight = layer.weight
    weight.data = weight.data.bfloat16()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        without = F.linear(inputs, weight, layer.bias)
        added = layer(inputs).float() - without.float()
    assert delta.norm() < 0.02 * without.float().norm()
    spacing = without.float().abs().mean() * 2**-8  # of bf16 near the outputs
    assert (added - delta).abs().mean() < 2 * spacing


def test_an_earlier_runs_names_are_kept() -> None:
    parent = nn.Module()
    parent.fc1 = nn.Linear(4, 3)
    add_low_rank(parent, 2)
    assert set(parent.state_dict()) == {
        "fc1.bias", "fc1.parametrizations.weight.original",
        "fc1.parametrizations.weight.0.down", "fc1.parametrizations.weight.0.up",
    }  # fmt: skip
