"""A decoder trained on under a base's own errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_library import known_library, small_library

from training.bases.encoders import encode_latents, to_pixels
from training.dataset.shard_file import write_shard
from training.toy.data.library import Library
from training.toy.recipe import AutoencoderRecipe
from training.toy.text import decoder
from training.toy.text.compositions import members
from training.toy.text.decoder import RestoredCrops, restored_crops, trained_decoder
from training.toy.text.drawing import Base, plain_model
from training.toy.text.settings import TYPICAL, DecoderTraining, Mix
from training.toy.text.start import read_start

START = Path(__file__).resolve().parents[2] / "weights" / "tiny_base.safetensors"
RECIPE = AutoencoderRecipe(batch_size=3)
MIX = Mix(counts=(0.2, 0.8), plain=0.0)
FIVE = DecoderTraining(num_restored=5, crops=2)


@pytest.fixture(scope="module")
def base() -> Base:
    start = read_start(START)
    return Base(plain_model(start), start)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """Two subjects instead of the data that a folder has."""
    known = known_library()
    monkeypatch.setattr(decoder, "load_library", lambda *_: known)
    return known


def test_a_crops_latents_are_of_the_same_place(base: Base) -> None:
    pictures = np.stack([*small_library().backgrounds])
    crops = RestoredCrops(pictures, encode_latents(base.vae, to_pixels(pictures)), 3)
    latents, shown = crops(RECIPE, 4)
    assert latents.shape == (3, 24, 8, 8) and shown.shape == (3, 3, 64, 64)
    torch.testing.assert_close(base.vae.encode(shown), latents, rtol=0, atol=1e-4)
    again, other = crops(RECIPE, 4), crops(RECIPE, 5)
    assert torch.equal(again[0], latents) and not torch.equal(other[0], latents)


def test_latents_are_restored_once_and_differ_from_the_pictures_own(
    base: Base, library: Library, tmp_path: Path
) -> None:
    kept = tmp_path / "restored.pt"
    crops = restored_crops(base, tmp_path, TYPICAL, FIVE, kept)
    assert crops.pictures.shape == (5, 128, 128, 3) and crops.latents.shape == (5, 24, 16, 16)
    own = encode_latents(base.vae, to_pixels(crops.pictures))
    errors = (crops.latents - own).square().mean((1, 2, 3))
    assert 0 < errors[0] < errors[-1]  # from little noise, and from much
    again = restored_crops(base, tmp_path, TYPICAL, FIVE, kept)
    assert torch.equal(again.latents, crops.latents)
    more = restored_crops(base, tmp_path, TYPICAL, replace(FIVE, num_restored=6), kept)
    assert len(more.pictures) == len(more.latents) == 6  # not those of other pictures


def test_the_decoder_is_trained_under_them_and_the_encoder_stays(
    base: Base, library: Library, tmp_path: Path
) -> None:
    shards = tmp_path / "composites-train"
    write_shard(shards / "00000.tar", members(library, MIX, 0, 4))
    crops = restored_crops(base, tmp_path, TYPICAL, FIVE, tmp_path / "restored.pt")
    out = tmp_path / "decoder"
    trained = trained_decoder(base, crops, shards, out, steps=2)
    before = base.vae.state_dict()
    assert trained.keys() == before.keys()
    for name, tensor in trained.items():
        assert torch.equal(tensor, before[name]) == name.startswith("analysis."), name
    other = RestoredCrops(crops.pictures, torch.zeros_like(crops.latents), crops.count)
    without = trained_decoder(base, other, shards, tmp_path / "other", steps=2)
    assert not torch.equal(without["synthesis.weight"], trained["synthesis.weight"])
