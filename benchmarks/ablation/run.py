"""Trains the Subject-Diffusion parts of the tiny model with one part taken away, and measures it.

Every variant sees the same batches, noise and number of steps, on the same frozen base.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from subject_diffusion_core import checkpoint
from subject_diffusion_core.adapter_options import AdapterOptions
from subject_diffusion_core.files.adapter import Adapter
from subject_diffusion_core.files.adapter_config import AdapterConfig
from training.bases.loading import read_tiny_base
from training.evaluation.rows import ROWS, SamplingSettings
from training.evaluation.tinybench import TinyBench
from training.recipes import TrainingRecipe
from training.runs import write_json
from training.toy.files import ADAPTER_NAME, BASE_NAME, recipe_of_file
from training.toy.recipe import TinyRecipe
from training.toy.stage_run import train_stage
from training.toy.stages import TRAIN_SHARDS, provenance

from .report import ROW_TITLES, write_report
from .variants import FULL, VARIANTS, Variant, with_compared

# (steps, warm-up, learning rate) unless asked otherwise
DEFAULTS = {"fresh": (2000, 100, 8e-4), "weights": (400, 20, 3e-4)}


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """How every variant is trained.

    Attributes:
        work: data folder of `python -m training tiny`.
        weights: folder with the base, and the adapter that gives sizes and (start "weights")
            the first values.
        start: "fresh" = new parts on the base; "weights" = the adapter of ``weights`` goes on
            without the part.
        steps, learning_rate: of all variants; None takes the start's default.
    """

    work: Path
    weights: Path
    start: str
    steps: int | None = None
    learning_rate: float | None = None

    @cached_property
    def stage(self) -> TrainingRecipe:
        """Sizes and options of the files, and how every variant is trained."""
        default_steps, warmup_steps, default_rate = DEFAULTS[self.start]
        steps = default_steps if self.steps is None else self.steps
        return replace(
            recipe_of_file(checkpoint.load(self.weights / ADAPTER_NAME).config),
            steps=steps,
            warmup_steps=min(warmup_steps, steps // 4),
            learning_rate=default_rate if self.learning_rate is None else self.learning_rate,
            checkpoint_every=50,
            seed=3,
        )

    @cached_property
    def file_hashes(self) -> list[str]:
        """Of base and adapter."""
        paths = (self.weights / name for name in (BASE_NAME, ADAPTER_NAME))
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

    def train_and_measure(
        self, names: list[str], settings: SamplingSettings, count: int, out: Path
    ) -> None:
        """All named variants and what they are compared with: the full model and those measured
        before first, so that a report never loses a variant that it had; it is written after each
        of the others."""
        described = {
            "start": self.start,
            "files": self.file_hashes,
            "stage": asdict(self.stage),
            "sampling": asdict(settings),
            "count": count,
        }
        scores, bench = {}, None
        wanted = with_compared(names)
        asked = [v for v in VARIANTS if v.name in wanted]
        measured = {v.name for v in asked if scores_path(out / v.name).exists()}
        asked.sort(key=lambda v: (v.name != FULL, v.name not in measured))
        for number, variant in enumerate(asked):
            print(f"variant {variant.name}", flush=True)
            folder = out / variant.name
            weights = self.train(variant, folder)
            if bench is None:
                bench = TinyBench(self.work, weights, folder / "bench", settings, count)
            bench = bench.for_weights(weights, folder / "bench")
            scores[variant.name] = measured_rows(bench, scores_path(folder))
            if number >= len(measured) - 1:
                write_report(described, scores, out)

    def train(self, variant: Variant, folder: Path) -> Path:
        """Train a variant, or go on with it, in ``folder``; the folder of its two weight files."""
        recipe, weights, run = variant.recipe_of(self.stage), folder / "weights", folder / "run"
        settings = {"start": self.start, "files": self.file_hashes, "recipe": recipe.as_dict()}
        claim_folder(folder, settings)
        if (weights / ADAPTER_NAME).exists():
            return weights
        base, data = read_tiny_base(self.weights / BASE_NAME), self.work / TRAIN_SHARDS
        trained = train_stage(recipe, data, run, base, self.first_adapter(recipe, folder))
        made_by = provenance(TinyRecipe(adapter=recipe), "ablation", self.work)
        made_by |= {"variant": variant.name, "start": self.start}
        weights.mkdir(exist_ok=True)
        shutil.copyfile(self.weights / BASE_NAME, weights / BASE_NAME)
        checkpoint.save(weights / ADAPTER_NAME, trained.adapter(made_by))
        shutil.rmtree(run / "checkpoints")
        return weights

    def first_adapter(self, recipe: TrainingRecipe, folder: Path) -> Path | None:
        """The file that a variant starts from; None for new parts."""
        if self.start == "fresh":
            return None
        path = folder / "start.safetensors"
        checkpoint.save(path, cut_adapter(checkpoint.load(self.weights / ADAPTER_NAME), recipe))
        return path


def scores_path(folder: Path) -> Path:
    """Where a variant's scores are, beside its pictures and contact sheets."""
    return folder / "bench" / "scores.json"


def measured_rows(bench: TinyBench, path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Row, score -> (Q,) of the bench's weights; rows measured before are read from ``path``."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for row in (row for row in ROWS if row.name in ROW_TITLES):
        fingerprint = bench.maker.fingerprint(row, bench.queries[row.kind])
        if stored.get(row.name, {}).get("fingerprint") == fingerprint:
            continue
        bench.measure(row)
        bench.measure_matches(row)
        values = bench.results[row.name].per_query()
        columns = {name: column.tolist() for name, column in values.items()}
        stored[row.name] = {"fingerprint": fingerprint, "values": columns}
        write_json(path, stored)
    return {
        name: {score: np.array(column) for score, column in stored[name]["values"].items()}
        for name in ROW_TITLES
    }


def claim_folder(folder: Path, settings: Mapping[str, object]) -> None:
    """Say in the folder what is trained there; refuse one that says something else."""
    path = folder / "settings.json"
    if not path.exists():
        write_json(path, settings)
    elif json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(settings)):
        raise ValueError(
            f"--out: expected a folder of the same weights and settings, got {folder}, which was "
            "made with others. Choose another folder, or delete this one."
        )


def cut_adapter(adapter: Adapter, recipe: TrainingRecipe) -> Adapter:
    """An adapter without the positions that ``recipe`` has no more."""
    options = {field.name: getattr(recipe, field.name) for field in fields(AdapterOptions)}
    unet = {
        name: tensor
        for name, tensor in adapter.unet.items()
        if recipe.query_positions or ".query_position." not in name
    }
    grounding = cut_grounding(adapter.grounding, adapter.config, recipe)
    config = replace(adapter.config, **options)
    return replace(adapter, config=config, unet=unet, grounding=grounding)


def cut_grounding(
    state: Mapping[str, Tensor], config: AdapterConfig, options: AdapterOptions
) -> dict[str, Tensor]:
    """A grounding net's weights without the position columns that ``options`` has no more.

    ``config``: of the net that ``state`` belongs to; its columns are patch features, then the
    features of the box, then those of the patch's own box, each where switched on.
    """
    width = 8 * config.num_freqs
    columns, end = list(range(config.patch_dim)), config.patch_dim
    for name in ("box_coordinates", "patch_positions"):
        if getattr(config, name):
            if getattr(options, name):
                columns += range(end, end + width)
            end += width
    positions = [column - config.patch_dim for column in columns[config.patch_dim :]]
    layer = ("layernorm.weight", "layernorm.bias", "fc1.weight")
    kept = {**{f"linears_image.{n}": columns for n in layer}, "null_position_feature": positions}
    return {name: t[..., kept[name]] if name in kept else t for name, t in state.items()}
