"""A stage of the recipe in the common loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..bases.base_model import BaseModel
from ..loop.checkpoints import newest_intact
from ..loop.launch import RunOptions
from ..loop.run import MakeRun, train
from ..loop.trained import TrainedModel, load_trained
from ..precision import fastest_precision, training_device
from ..recipes import TrainingRecipe


def train_stage(
    stage: TrainingRecipe,
    data: Path,
    out: Path,
    base: BaseModel,
    init: Path | None = None,
    make_run: MakeRun | None = None,
) -> TrainedModel:
    """Train a stage in the common loop, or go on with it; the model with its moving average."""
    stage = replace(stage, precision=fastest_precision(training_device()))
    train(RunOptions(recipe=stage, data=data, out=out, base_model=base, init=init), make_run)
    folder = newest_intact(out)
    assert folder is not None
    return load_trained(folder, base, stage, init)
