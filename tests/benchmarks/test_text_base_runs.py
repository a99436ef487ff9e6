"""Trainings of `python -m benchmarks.text_base`, for a step of two pictures each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from small_library import small_library

from benchmarks.text_base.budget_run import after_run, train_variant
from benchmarks.text_base.mixes import MIXES
from benchmarks.text_base.variants import Variant
from training.dataset.shard_file import write_shard
from training.toy.text.compositions import members
from training.toy.text.lessons import Start
from training.toy.text.start import read_start

START = Path(__file__).resolve().parents[2] / "weights" / "tiny_base.safetensors"
PLAIN = Variant(
    name="plain",
    title="plain",
    settings=("global_batch_size=2", "micro_batch_size=2", "learning_rate=0.01", "ema_every=1"),
)
ONE_STEP = 1e-9  # tera-operations; a run takes one step at least


@pytest.fixture
def shards(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "work" / "composites-few"
    write_shard(folder / "00000.tar", members(small_library(), MIXES["few"], 0, 6))
    AcceleratorState._reset_state(reset_partial_state=True)
    yield folder
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_variant_goes_on_from_the_averaged_weights_of_anothers_run(
    shards: Path, tmp_path: Path
) -> None:
    trained, spent = train_variant(PLAIN, shards, tmp_path / "plain-1", START, ONE_STEP)
    start = read_start(START)
    begun = after_run(Start(start, 0.0), tmp_path / "plain-1")
    assert begun.samples == spent["samples"] == 2
    assert begun.tera == spent["tera"] > 0
    state = trained.model.state_dict()
    for name, tensor in begun.base.unet.items():
        own = state[f"unet.{name}"]
        assert torch.equal(tensor, own[:, : tensor.shape[1]] if own.ndim > 1 else own), name
    for name, tensor in begun.base.text.items():
        assert torch.equal(tensor, state[f"text_encoder.{name}"]), name
    assert not torch.equal(begun.base.unet["conv_out.weight"], start.unet["conv_out.weight"])
    on = replace(PLAIN, name="on", goes_on="plain-1")
    _, more = train_variant(on, shards, tmp_path / "on-1", START, ONE_STEP)
    assert more["samples"] == 4 and more["tera"] == pytest.approx(2 * spent["tera"], rel=0.05)
    last = replace(PLAIN, name="last", goes_on="on-1")
    _, most = train_variant(last, shards, tmp_path / "last-1", START, ONE_STEP)
    assert most["samples"] == 6 and most["tera"] == pytest.approx(3 * spent["tera"], rel=0.05)


def test_a_variant_asks_for_the_run_that_it_goes_on_from(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Measure that variant first"):
        train_variant(replace(PLAIN, goes_on="none-1"), shards, tmp_path / "on-1", START, ONE_STEP)
