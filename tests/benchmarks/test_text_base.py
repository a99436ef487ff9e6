"""What `python -m benchmarks.text_base` changes in a training, asks and writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTextModel

from benchmarks.text_base.budget_run import draw_changed
from benchmarks.text_base.compositions import MIXES, RECIPE, scene_alone
from benchmarks.text_base.report import table
from benchmarks.text_base.start import read_start
from benchmarks.text_base.variants import VARIANTS, Variant
from benchmarks.text_base.words import KEPT, directions
from training.bases.loading import read_tiny_base
from training.methods.objective import draw_noise
from training.networks.text import encode_text, encode_words

START = Path(__file__).resolve().parents[2] / "weights" / "tiny_base.safetensors"
SHAPE, POSITIONS = torch.Size((64, 3, 4, 4)), list(range(64))
PLAIN = Variant(name="plain", title="plain")


def test_a_plain_variant_has_the_loops_own_noise() -> None:
    noise, steps = draw_changed(PLAIN, SHAPE, POSITIONS, 5)
    own, own_steps = draw_noise(SHAPE, POSITIONS, 5)
    assert torch.equal(noise, own) and torch.equal(steps, own_steps)


def test_shifted_timesteps_lie_nearer_to_noise_and_within_the_schedule() -> None:
    _, own = draw_changed(PLAIN, SHAPE, POSITIONS, 5)
    _, shifted = draw_changed(replace(PLAIN, early=3.0), SHAPE, POSITIONS, 5)
    assert bool((shifted >= own).all()) and int(shifted.max()) < 1000
    share = (own.double() + 0.5) / 1000
    assert torch.equal(shifted, (3 * share / (1 + 2 * share) * 1000).long())


def test_every_variant_is_a_recipe() -> None:
    for variant in VARIANTS.values():
        assert variant.training(7).steps == 7
        assert variant.mix in (RECIPE, *MIXES)


@pytest.mark.parametrize("name", MIXES)
def test_shares_of_a_mix_are_all_pictures(name: str) -> None:
    assert sum(MIXES[name].counts) == pytest.approx(1)


def test_a_scene_alone_is_captioned_by_the_scene() -> None:
    background = np.zeros((8, 8, 3), np.uint8)
    captions = {
        scene_alone(background, "in a forest", np.random.default_rng(seed)).caption
        for seed in range(40)
    }
    places = {"in a forest", "a photo in a forest", "a picture in a forest"}
    assert captions == places | {"an image in a forest"}


def test_directions_keep_what_differs_most() -> None:
    features = np.random.default_rng(0).normal(size=(10, 5)) * [9, 1, 1, 1, 0.1]
    found = directions(features)
    assert found.shape == (10, KEPT) and found.std() == pytest.approx(5**0.5 / 8, rel=0.05)
    centred = features[:, 0] - features[:, 0].mean()
    assert abs(np.corrcoef(found[:, 0], centred)[0, 1]) > 0.99


def test_the_start_says_of_known_words_what_the_stored_base_says() -> None:
    start, stored = read_start(START), read_tiny_base(START)
    assert start.vocabulary is not None
    ids = torch.tensor([[49406, *encode_words("a truck in a forest"), 49407, 49407]])
    states = []
    for base, own in ((stored, ids), (start, start.vocabulary.compact(ids))):
        encoder = CLIPTextModel(base.text_config).eval()
        encoder.load_state_dict(base.text)
        with torch.no_grad():
            states.append(encode_text(encoder, own))
    assert torch.equal(*states)


def test_a_row_has_shares_in_per_cent_and_gaps_as_they_are() -> None:
    scores = {"group": [1.0, 0.0, 1.0, 0.0], "label_gap": [0.25, 0.25]}
    about = {"samples": 320, "tera": 2.04, "guidance": 3.0, "sampling_steps": 12}
    row = table([{"title": "one", "about": about, "scores": scores}])[-1]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["one", "320", "2.0", "3, 12"]
    assert cells[4].startswith("50.0 [") and cells[7] == "0.25 [0.25, 0.25]"
    assert cells[5] == "-"
