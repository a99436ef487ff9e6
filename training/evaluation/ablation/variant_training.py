"""Trains the Subject-Diffusion parts of the tiny model with one part taken away.

Every variant sees the same batches, noise and number of steps, on the same frozen base.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from subject_diffusion_core import checkpoint
from subject_diffusion_core.adapter_options import AdapterOptions
from subject_diffusion_core.files.adapter import Adapter
from subject_diffusion_core.files.adapter_config import AdapterConfig

from ...bases.loading import read_tiny_base
from ...recipes import TrainingRecipe
from ...runs import write_json
from ...toy.files import ADAPTER_NAME, BASE_NAME, recipe_of_file
from ...toy.recipe import TinyRecipe
from ...toy.stages import TRAIN_SHARDS, provenance, train_stage
from .variants import Variant

# (steps, warm-up, learning rate) unless asked otherwise
DEFAULTS = {"fresh": (2000, 100, 8e-4), "weights": (400, 20, 3e-4)}
CHECKPOINT_EVERY = 50
SETTINGS_NAME = "settings.json"
START_NAME = "start.safetensors"


@dataclass(frozen=True, kw_only=True)
class VariantTraining:
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
            checkpoint_every=CHECKPOINT_EVERY,
            seed=3,
        )

    def settings(self, variant: Variant) -> dict[str, object]:
        """Everything that a variant's weights depend on, as plain values."""
        recipe = variant.recipe_of(self.stage)
        settings = {"start": self.start, "files": self.file_hashes, "recipe": recipe.as_dict()}
        return dict(json.loads(json.dumps(settings)))

    @cached_property
    def file_hashes(self) -> list[str]:
        """Of base and adapter."""
        paths = (self.weights / name for name in (BASE_NAME, ADAPTER_NAME))
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]

    def run(self, variant: Variant, folder: Path) -> Path:
        """Train a variant, or go on with it, in ``folder``; the folder of its two weight files."""
        settings = self.settings(variant)
        claim_folder(folder, settings)
        weights = folder / "weights"
        if (weights / ADAPTER_NAME).exists():
            return weights
        recipe = variant.recipe_of(self.stage)
        base = read_tiny_base(self.weights / BASE_NAME)
        run, data = folder / "run", self.work / TRAIN_SHARDS
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
        path = folder / START_NAME
        checkpoint.save(path, cut_adapter(checkpoint.load(self.weights / ADAPTER_NAME), recipe))
        return path


def claim_folder(folder: Path, settings: Mapping[str, object]) -> None:
    """Say in the folder what is trained there; refuse one that says something else."""
    path = folder / SETTINGS_NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
    elif json.loads(path.read_text(encoding="utf-8")) != settings:
        raise ValueError(
            f"--out: expected a folder of the same weights and settings, got {folder}, which was "
            "made with others. Choose another folder, or delete this one."
        )


def cut_adapter(adapter: Adapter, recipe: TrainingRecipe) -> Adapter:
    """An adapter without the positions that ``recipe`` has no more."""
    names = {field.name for field in fields(AdapterOptions)}
    options = {name: getattr(recipe, name) for name in names}
    unet = {
        name: tensor
        for name, tensor in adapter.unet.items()
        if recipe.query_positions or ".query_position." not in name
    }
    return replace(
        adapter,
        config=replace(adapter.config, **options),
        unet=unet,
        grounding=cut_grounding(adapter.grounding, adapter.config, recipe),
    )


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
    kept = {
        "linears_image.layernorm.weight": columns,
        "linears_image.layernorm.bias": columns,
        "linears_image.fc1.weight": columns,
        "null_position_feature": positions,
    }
    return {
        name: tensor[..., kept[name]] if name in kept else tensor for name, tensor in state.items()
    }
