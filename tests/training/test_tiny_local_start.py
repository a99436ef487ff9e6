"""The start of the tiny model's adapters: a place looks at what belongs there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_tables import small_recipe

from subject_diffusion_core.box_fourier import BoxFourierEmbedder, cell_position_features
from subject_diffusion_core.gated_attention import GatedSelfAttention
from training.text import CompactVocabulary
from training.tiny.build import build_model

SIDE = 8


@pytest.fixture(scope="module")
def layer() -> GatedSelfAttention:
    model = build_model(small_recipe(), CompactVocabulary({1, 2, 48136}))
    return next(m for m in model.modules() if isinstance(m, GatedSelfAttention))


@torch.no_grad()
def position_logits(layer: GatedSelfAttention) -> torch.Tensor:
    """(H, Q, Q): q.k / sqrt(K) of the positions alone, of all cells of a grid."""
    features = cell_position_features(SIDE, SIDE, BoxFourierEmbedder())
    embedded = layer.query_position(features)
    query, key = (
        layer.attn.split_heads(projection(embedded))[0]
        for projection in (layer.attn.to_q, layer.attn.to_k)
    )
    return query @ key.transpose(-1, -2) / layer.attn.head_dim**0.5


def test_places_look_at_themselves_or_a_neighbour(layer: GatedSelfAttention) -> None:
    mean = position_logits(layer).mean(0)
    place, best = torch.arange(SIDE * SIDE), mean.argmax(-1)
    rows_apart = (place // SIDE - best // SIDE).abs()
    columns_apart = (place % SIDE - best % SIDE).abs()
    near = torch.maximum(rows_apart, columns_apart) <= 1
    assert near.float().mean() > 0.9
    others = mean[~torch.eye(SIDE * SIDE, dtype=torch.bool)]
    assert mean.diagonal().min() > others.mean() + 2


def test_values_do_not_see_positions(layer: GatedSelfAttention) -> None:
    features = cell_position_features(SIDE, SIDE, BoxFourierEmbedder())
    with torch.no_grad():
        assert layer.attn.to_v(layer.query_position(features)).abs().max() < 1e-4


def test_without_it_positions_start_without_effect() -> None:
    model = build_model(replace(small_recipe(), local_start=False), CompactVocabulary({1, 48136}))
    layers = [m for m in model.modules() if isinstance(m, GatedSelfAttention)]
    assert layers and not any(m.query_position.weight.any() for m in layers)
