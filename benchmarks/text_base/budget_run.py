"""A variant trained for a budget of arithmetic in the common loop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from training.bases.encoders import FrozenEncoders
from training.dataset.batches import BatchStream, MicroBatch
from training.dataset.catalogue import Catalogue, open_catalogue
from training.loop.checkpoints import newest_intact, remove_partial
from training.loop.launch import (
    CONFIG_NAME,
    RunOptions,
    check_config,
    make_accelerator,
    only_writer,
    write_config,
)
from training.loop.optimizers import NamedParameters
from training.loop.step_cost import count_flops
from training.loop.trained import TrainedModel, load_trained
from training.methods.objective import Objective
from training.networks.fused_attention import WatchedTokens
from training.recipes import TrainingRecipe
from training.runs import write_json
from training.toy.text.drawing import plain_base
from training.toy.text.lessons import Start, after_lessons, parts_of, taught_base
from training.toy.text.stage import TextRun
from training.toy.text.start import read_start

from .attention_above import with_attention_above
from .muon import Muon
from .objective import VariantObjective
from .relearning import after_relearning
from .variants import Variant

COUNTED_STEPS = 4
COST_NAME, SPENT_NAME = "cost.json", "spent.json"


class VariantRun(TextRun):
    """The text stage's run with a variant's noise and loss."""

    def __init__(
        self,
        variant: Variant,
        start: Start,
        options: RunOptions,
        accelerator: Accelerator,
        catalogue: Catalogue,
    ) -> None:
        self.variant = variant
        super().__init__(start, options, accelerator, catalogue)

    def make_objective(self, watched: WatchedTokens, encoders: FrozenEncoders) -> Objective:
        device = self.accelerator.device
        return VariantObjective(
            self.variant, self.start, self.model, watched, self.base, self.recipe, encoders, device
        )

    def make_optimizer(self, parameters: NamedParameters) -> torch.optim.Optimizer:
        if not self.variant.muon:
            return super().make_optimizer(parameters)
        return Muon(parameters, self.recipe.learning_rate, self.recipe.adam_beta2)

    def count_step(self) -> float:
        """Tera-operations of a step's matrix products and convolutions, forward, backward and in
        the optimiser: mean over the first steps, whose weights are thrown away."""
        stream = BatchStream(self.dataset, 0, 0, 1)
        batches = [stream.next_step() for _ in range(COUNTED_STEPS)]

        def all_batches() -> None:
            for batch in batches:
                self.backpropagate(batch)
                self.optimizer.step()

        flops = count_flops(all_batches)
        self.optimizer.zero_grad()
        return flops / COUNTED_STEPS / 1e12

    def backpropagate(self, micro_batches: list[MicroBatch]) -> None:
        """Gradients of one step."""
        for batch in micro_batches:
            with self.accelerator.autocast():
                mse, maps = self.objective(batch)
            (mse + self.recipe.map_loss_weight * maps).backward()


def train_variant(
    variant: Variant, data: Path, out: Path, start: Path, tera: float
) -> tuple[TrainedModel, dict[str, float]]:
    """Train, or go on, until ``tera`` tera-operations; the averaged model, and what it took.

    Args:
        data: shards of the variant's mix. out: the run's folder. start: the stored base's file.
    """
    begun = start_of_variant(variant, data.parent, out, start)
    if variant.goes_on:
        begun = after_run(begun, out.parent / variant.goes_on)
    if variant.relearns is not None:
        kept = out.parent / f"{variant.goes_on}-{variant.relearns.name}.pt"
        begun = after_relearning(variant.relearns, begun, data.parent, kept)
    accelerator = make_accelerator(variant.training(1))
    catalogue = open_catalogue(data, out / "index")
    cost_path = out / COST_NAME

    def run_of(steps: int) -> VariantRun:
        options = RunOptions(
            recipe=variant.training(steps), data=data, out=out, base_model=begun.base
        )
        return VariantRun(variant, begun, options, accelerator, catalogue)

    if not cost_path.exists():
        write_json(cost_path, run_of(1).count_step())
    cost = json.loads(cost_path.read_text(encoding="utf-8"))
    steps = max(1, round((tera - begun.tera) / cost))
    recipe = variant.training(steps)
    with only_writer(out):
        check_config(out, recipe, {})
        remove_partial(out)
        run = run_of(steps)
        write_config(out, recipe, {}, {})
        run.go()
    folder = newest_intact(out)
    assert folder is not None
    trained = load_trained(folder, begun.base, recipe)
    samples = begun.samples + steps * recipe.global_batch_size
    spent = {"samples": samples, "tera": steps * cost + begun.tera}
    write_json(out / SPENT_NAME, spent)
    return trained, spent


def after_run(begun: Start, out: Path) -> Start:
    """``begun`` with the averaged weights of a finished run in the folder ``out``, and with what
    that took."""
    folder = newest_intact(out)
    if folder is None or not (out / SPENT_NAME).exists():
        raise FileNotFoundError(
            f"{out}: expected the finished run that this variant goes on from, got none there. "
            "Measure that variant first."
        )
    recipe = TrainingRecipe(**json.loads((out / CONFIG_NAME).read_text("utf-8"))["recipe"])
    trained = load_trained(folder, begun.base, recipe)
    base = taught_base(begun.base, parts_of(plain_base(trained)))
    spent = json.loads((out / SPENT_NAME).read_text(encoding="utf-8"))
    return replace(begun, base=base, tera=spent["tera"], samples=spent["samples"])


def start_of_variant(variant: Variant, work: Path, out: Path, path: Path) -> Start:
    """What a variant begins with: the stored base ``path`` after lessons, kept beside ``out``."""
    base = read_start(path)
    if variant.attention_above:
        base = with_attention_above(base)
    return after_lessons(base, variant.words, variant.canvas, work, out.parent)
