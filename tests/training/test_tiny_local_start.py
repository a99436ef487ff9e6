"""The start of the tiny model's adapters: a place looks at what belongs there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_parts import small_model, small_recipe

from subject_diffusion_core.box_fourier import BoxFourierEmbedder, cell_position_features
from subject_diffusion_core.gated_attention import GatedSelfAttention
from training.methods.subject_diffusion.local_start import (
    PEAK_LOGIT,
    chosen_frequencies,
    pair_rotation,
    pair_selection,
)

LATENT_SIDE = 16


@pytest.fixture(scope="module")
def layers() -> list[GatedSelfAttention]:
    """Those at the latent's size have four heads, the others six."""
    recipe = small_recipe()
    model = small_model(recipe, recipe.joint)
    return [m for m in model.modules() if isinstance(m, GatedSelfAttention)]


@torch.no_grad()
def position_logits(layer: GatedSelfAttention) -> torch.Tensor:
    """(H, Q, Q): q.k / sqrt(K) of the positions alone, of all cells of a grid."""
    features = cell_position_features(LATENT_SIDE, LATENT_SIDE, BoxFourierEmbedder())
    embedded = layer.query_position(features)
    query, key = (
        layer.attn.split_heads(projection(embedded))[0]
        for projection in (layer.attn.to_q, layer.attn.to_k)
    )
    return query @ key.transpose(-1, -2) / layer.attn.head_dim**0.5


@pytest.mark.parametrize("head", range(4))
def test_every_head_looks_at_its_own_part_of_the_cell(
    layers: list[GatedSelfAttention], head: int
) -> None:
    """Of tokens as small as a quarter of a cell, the one at the head's spot wins."""
    layer = next(layer for layer in layers if layer.attn.num_heads == 4)
    embedder = BoxFourierEmbedder()
    cells, parts = (cell_position_features(n, n, embedder) for n in (LATENT_SIDE, 2 * LATENT_SIDE))
    with torch.no_grad():
        query = layer.attn.split_heads(layer.attn.to_q(layer.query_position(cells)))[0, head]
        key = layer.attn.split_heads(layer.attn.to_k(layer.query_position(parts)))[0, head]
    logits = query @ key.T / layer.attn.head_dim**0.5
    place = torch.arange(LATENT_SIDE**2)
    row = 2 * (place // LATENT_SIDE) + head // 2
    column = 2 * (place % LATENT_SIDE) + head % 2
    assert torch.equal(logits.argmax(-1), row * 2 * LATENT_SIDE + column)
    assert logits.max() > logits.mean() + 4


def test_logit_of_equal_boxes(layers: list[GatedSelfAttention]) -> None:
    """Without an offset it would be PEAK_LOGIT; the offsets of a quarter of a cell take some."""
    for layer in layers:
        diagonal = position_logits(layer).diagonal(dim1=-2, dim2=-1)
        assert diagonal.min() > 0.25 * PEAK_LOGIT
        assert diagonal.max() < PEAK_LOGIT + 1e-3


def test_rotation_moves_the_box() -> None:
    frequencies = chosen_frequencies(32, 1 / 16, 8, 100.0)
    selection = pair_selection(frequencies, 8)
    turn = pair_rotation([100.0 ** (k / 8) for k in frequencies], 0.03, -0.05)
    box, moved = torch.tensor([0.1, 0.2, 0.3, 0.5]), torch.tensor([0.13, 0.15, 0.33, 0.45])
    embedder = BoxFourierEmbedder()
    torch.testing.assert_close(
        turn @ selection @ embedder(box), selection @ embedder(moved), atol=1e-5, rtol=0
    )


def test_values_do_not_see_positions(layers: list[GatedSelfAttention]) -> None:
    features = cell_position_features(LATENT_SIDE, LATENT_SIDE, BoxFourierEmbedder())
    layer = layers[0]
    with torch.no_grad():
        assert layer.attn.to_v(layer.query_position(features)).abs().max() < 1e-4


def test_without_it_positions_start_without_effect() -> None:
    recipe = small_recipe()
    model = small_model(recipe, replace(recipe.joint, local_start=False))
    layers = [m for m in model.modules() if isinstance(m, GatedSelfAttention)]
    assert layers and not any(m.query_position.weight.any() for m in layers)
