"""The text stage of `python -m training tiny`, all of it, a few steps each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from bench_work import write_work
from small_library import known_library
from tiny_parts import small_recipe, write_tables, write_weights

from subject_diffusion_core import checkpoint
from subject_diffusion_core.tiny import tiny_base
from training.networks.efficientnet import is_installed
from training.toy.files import ADAPTER_NAME, BASE_NAME
from training.toy.stages import TRAIN_SHARDS, run_adapter
from training.toy.text import compositions, decoder, lessons
from training.toy.text.encoder import LITE0
from training.toy.text.settings import Canvas, DecoderTraining, TextRecipe, WordsLesson
from training.toy.text.stage import run_text

pytestmark = pytest.mark.skipif(not is_installed(LITE0), reason="no EfficientNet-Lite0")


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def small_text() -> TextRecipe:
    """Two steps a training."""
    few: dict[str, Any] = {
        "steps": 2, "warmup_steps": 1, "global_batch_size": 2, "micro_batch_size": 2,
        "ema_every": 1, "checkpoint_every": 1,
    }  # fmt: skip
    recipe = TextRecipe(
        words=WordsLesson(steps=1),
        canvas=Canvas(steps=1),
        num_pictures=4,
        decoder=DecoderTraining(steps=1, num_restored=5),
    )
    return replace(
        recipe,
        training=replace(recipe.training, **few),
        refinement=replace(recipe.refinement, **few),
    )


def test_the_base_and_its_decoder_are_taught_and_an_adapter_goes_on_from_there(
    tmp_path: Path, fresh_accelerate: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = known_library()
    for module in (compositions, decoder, lessons):
        monkeypatch.setattr(module, "load_library", lambda *_: library)
    (tmp_path / "start").mkdir()
    start, work, weights = write_weights(tmp_path / "start"), tmp_path / "work", tmp_path / "out"
    work.mkdir()
    write_tables(write_work(work))
    before = start / BASE_NAME, start / ADAPTER_NAME
    after = weights / BASE_NAME, work / "text_adapter.safetensors"
    shards = work / TRAIN_SHARDS
    run_text(work, shards, small_text(), before, after)
    old, new = tiny_base.load(before[0]), tiny_base.load(after[0])
    for part, tensors in (("unet", old.unet), ("text_encoder", old.text_encoder)):
        taught = getattr(new, part)
        assert taught.keys() == tensors.keys()
        assert any(not torch.equal(taught[name], tensor) for name, tensor in tensors.items())
    moved = {name for name, tensor in old.vae.items() if not torch.equal(tensor, new.vae[name])}
    assert moved and not any(name.startswith("analysis.") for name in moved)
    told = new.config["provenance"]["history"]
    assert told[0].startswith("text stage: lessons of 1 and 1 steps; text to image, 2 steps of 2")
    assert told[1].startswith("decoder: 1 steps on at 0.001")
    recipe = new.config["provenance"]["text_to_image"]["recipe"]
    assert (recipe["name"], recipe["timestep_shift"]) == ("tiny_text_fine", 0.4)
    adapter = checkpoint.load(after[1])
    shared = {name: tensor for name, tensor in adapter.unet.items() if ".attn2." in name}
    assert shared
    for name, tensor in shared.items():
        error = (tensor - new.unet[name].to(tensor)).abs().max()  # both files are in 8 bits
        assert error <= 0.02 * tensor.abs().max(), name
    first = after[0].read_bytes(), after[1].read_bytes()
    run_text(work, shards, small_text(), before, after)  # the same command again
    assert (after[0].read_bytes(), after[1].read_bytes()) == first
    run_adapter(work, weights, small_recipe(steps=2), after[1], {"history": []})
    assert checkpoint.load(weights / ADAPTER_NAME).unet.keys() == adapter.unet.keys()
    log = (work / "text" / "refinement" / "log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == 2
