"""The common loop gives the losses that the small model's own loop gave from the same numbers.

That loop was removed when this one had learnt all it did. ``recorded_losses.json`` holds what it
computed in fp32 from `recorded_batches.py`: 30 steps of its joint stage (base and adapter, from
nothing) and of its adapter stage, AdamW, warm-up and cosine, clipping and moving average included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from own_pictures import write_pictures
from recorded_batches import (
    BATCH_SIZE,
    NUM_STEPS,
    VOCABULARY_SIZE,
    map_loss_then,
    recorded_batch,
    recorded_losses,
    recorded_noise,
    set_numbered_weights,
)
from tiny_parts import small_recipe

from subject_diffusion_core.tiny.tiny_vision import TinyVision
from training.__main__ import main
from training.dataset.batches import MicroBatch
from training.dataset.catalogue import open_catalogue
from training.loop.launch import RunOptions
from training.loop.run import Run
from training.methods import objective
from training.networks.text import CompactVocabulary
from training.toy.block_pca import BlockBasis
from training.toy.recipe import TinyRecipe
from training.toy.stages import untrained_base

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Any shards: a run opens them, the batches are the recorded ones."""
    folder = tmp_path_factory.mktemp("data")
    listed = write_pictures(folder / "pictures", count=2)
    main([
        "precompute", "--jsonl", str(listed), "--out", str(folder), "--recipe", "tiny_joint",
        "--features", "none",
    ])  # fmt: skip
    return folder / "train"


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def recorded_run(stage: str, shards: Path, out: Path) -> Run:
    """A run of the stage at its first step, with the numbered weights and the recorded noise."""
    recipe: TinyRecipe = small_recipe()
    settings = replace(
        recipe.joint if stage == "joint" else recipe.adapter,
        num_subjects=4,
        token_table=stage == "joint",
        steps=NUM_STEPS,
        warmup_steps=5,
        learning_rate=8e-4,
        global_batch_size=BATCH_SIZE,
        micro_batch_size=BATCH_SIZE,
        few_slots=0,
    )
    vocabulary = CompactVocabulary(range(100, 100 + VOCABULARY_SIZE - 3))
    assert len(vocabulary) == VOCABULARY_SIZE
    basis = BlockBasis(center=torch.zeros(192), weight=torch.eye(192)[:24])
    base = untrained_base(recipe, vocabulary, basis)
    base = replace(base, vision=TinyVision().state_dict())
    options = RunOptions(recipe=settings, data=shards, out=out, base_model=base)
    run = Run(options, Accelerator(cpu=True), open_catalogue(shards, out / "index"))
    set_numbered_weights(run.objective.model)
    assert run.average is not None
    run.average.load({name: p.detach() for name, p in run.parameters})
    run.objective.draw_noise = lambda _shape, _positions, _seed: recorded_noise(stage, run.step)
    return run


@pytest.mark.parametrize("stage", ["joint", "adapter"])
def test_losses_are_those_of_the_loop_before(
    stage: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "cross_attention_map_loss", map_loss_then)
    run = recorded_run(stage, shards, tmp_path)
    expected = recorded_losses(stage)
    found: dict[str, list[float]] = {"mse": [], "maps": [], "norm": []}
    shape = run.vision_shape
    for _ in range(NUM_STEPS):
        tensors = recorded_batch(stage, run.step, (shape.num_patches, shape.patch_dim))
        batch = MicroBatch(tensors=tensors, positions=list(range(BATCH_SIZE)), names=[], skipped=[])
        values = run.train_step([batch])
        run.step += 1
        for name, column in found.items():
            column.append(values[name])
    for name, column in found.items():
        assert column == pytest.approx(expected[name], rel=TOLERANCE, abs=TOLERANCE), name
    assert run.average is not None
    averages = {name: float(value.abs().mean()) for name, value in run.average.state().items()}
    # a bias of keys changes no attention: its gradient is rounding alone, which Adam makes large
    kept = {name: value for name, value in expected["average"].items() if "k_proj.bias" not in name}
    assert len(kept) > 10
    assert {name: averages[name] for name in kept} == pytest.approx(kept, rel=TOLERANCE)
