"""The text stage as a whole: from both files of a base that hardly draws what a caption says to
both files of one that does."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from accelerate import Accelerator

from ...bases.base_model import BaseModel
from ...bases.encoders import FrozenEncoders
from ...dataset.catalogue import Catalogue
from ...loop.launch import RunOptions
from ...loop.run import Run
from ...loop.trained import TrainedModel
from ...methods.objective import Objective
from ...networks.fused_attention import WatchedTokens
from ..stage_run import train_stage
from .compositions import make_pictures
from .decoder import decoder_under_errors
from .drawing import plain_base
from .export import mark, write_both
from .lessons import Start, after_lessons, parts_of, taught_base
from .objective import TextObjective
from .settings import TextRecipe
from .start import read_start


class TextRun(Run):
    """The common loop with the text stage's loss."""

    def __init__(
        self, start: Start, options: RunOptions, accelerator: Accelerator, catalogue: Catalogue
    ) -> None:
        self.start = start
        super().__init__(options, accelerator, catalogue)

    def make_objective(self, watched: WatchedTokens, encoders: FrozenEncoders) -> Objective:
        device = self.accelerator.device
        return TextObjective(
            self.start, self.model, watched, self.base, self.recipe, encoders, device
        )


def run_text(
    work: Path,
    shards: Path,
    recipe: TextRecipe,
    before: tuple[Path, Path],
    after: tuple[Path, Path],
) -> None:
    """Teach the base of the files ``before`` (base, adapter), and write both ``after``.

    ``work`` has the data stage's cut-outs and backgrounds, and keeps what is made; ``shards`` are
    the real pictures of the decoder. The encoder stays, and so do latents; the adapter gets what
    it shares with the base.
    """
    folder = work / "text"
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_text(recipe, read_start(before[0]), work, folder)
    decoder = decoder_under_errors(
        plain_base(trained), work, shards, recipe.mix, recipe.decoder, folder
    )
    write_both(trained, history(recipe, before[0]), decoder, before, after)


def train_text(recipe: TextRecipe, base: BaseModel, work: Path, folder: Path) -> TrainedModel:
    """The lessons and both trainings, each gone on with where it was stopped."""
    data = make_pictures(work, recipe.mix, work / "composites-text", recipe.num_pictures)
    begun = after_lessons(base, recipe.words, recipe.canvas, work, folder)
    run = partial(TextRun, begun)
    trained = train_stage(recipe.training, data, folder / "training", begun.base, make_run=run)
    taught = taught_base(begun.base, parts_of(plain_base(trained)))
    run = partial(TextRun, replace(begun, base=taught))
    return train_stage(recipe.refinement, data, folder / "refinement", taught, make_run=run)


def history(recipe: TextRecipe, start: Path) -> str:
    """What both files say of it."""
    first, second = recipe.training, recipe.refinement
    return (
        f"text stage: lessons of {recipe.words.steps} and {recipe.canvas.steps} steps; text to "
        f"image, {first.steps} steps of {first.global_batch_size} at {first.learning_rate:g}, seed "
        f"{first.seed}, then {second.steps} of {second.global_batch_size} at "
        f"{second.learning_rate:g}, timestep_shift {second.timestep_shift:g}, seed {second.seed}; "
        f"{recipe.num_pictures} pictures; from the base {mark(start)}, whose encoder it keeps"
    )
