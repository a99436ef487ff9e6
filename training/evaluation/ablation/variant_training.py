"""Trains the Subject-Diffusion parts of the tiny model with one part taken away.

Every variant sees the same batches, noise and number of steps, on the same frozen base.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.adapter_config import AdapterConfig
from subject_diffusion_core.tiny import tiny_base

from ...methods.subject_diffusion.model import AdapterShape, SubjectDiffusionModel
from ...toy.batches import BatchMaker
from ...toy.build import build_model
from ...toy.data.storage import write_json
from ...toy.diffusion import train_diffusion
from ...toy.export import adapter_from_model, freeze_base, load_adapter_into, load_base_into
from ...toy.loading import ADAPTER_NAME, BASE_NAME, recipe_of_files
from ...toy.recipe import DiffusionRecipe, TinyRecipe
from ...toy.stages import DiffusionStages, load_averaged, provenance, training_device
from .variants import Variant

# (steps, warm-up, learning rate) unless asked otherwise
DEFAULTS = {"fresh": (2000, 100, 8e-4), "weights": (400, 20, 3e-4)}
CHECKPOINT_EVERY = 50
SETTINGS_NAME = "settings.json"


@dataclass(frozen=True, kw_only=True)
class VariantTraining:
    """How every variant is trained.

    Attributes:
        work: data folder with the tables of `python -m training tiny`.
        weights: folder with the base, and the adapter that gives sizes and (start "weights")
            the first values.
        start: "fresh" = new parts on the base; "weights" = the adapter of ``weights`` goes on
            without the part.
        stage: of all variants; each puts its own map loss into it.
    """

    work: Path
    weights: Path
    start: str
    stage: DiffusionRecipe

    @cached_property
    def full_recipe(self) -> TinyRecipe:
        """Sizes and options of the files."""
        base = tiny_base.load(self.weights / BASE_NAME)
        return recipe_of_files(base, checkpoint.load(self.weights / ADAPTER_NAME).config)

    @cached_property
    def stages(self) -> DiffusionStages:
        """The tables; opened when first needed."""
        return DiffusionStages(self.work, self.full_recipe)

    @cached_property
    def batches(self) -> BatchMaker:
        """The batches of all variants: they depend on nothing that a variant changes."""
        return self.stages.batches(self.stage)

    def settings(self, variant: Variant) -> dict[str, object]:
        """Everything that a variant's weights depend on, as plain values."""
        recipe = variant.recipe_of(self.full_recipe, self.stage)
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
        recipe = variant.recipe_of(self.full_recipe, self.stage)
        model = self.starting_model(recipe)
        averaged = train_diffusion(
            model.to(training_device()), self.batches, recipe.adapter, folder, "adapter"
        )
        load_averaged(model.cpu(), averaged)
        made_by = provenance(recipe, "ablation", self.work)
        made_by |= {"variant": variant.name, "start": self.start}
        adapter = adapter_from_model(model, self.stages.vocabulary, recipe, made_by)
        weights.mkdir(exist_ok=True)
        shutil.copyfile(self.weights / BASE_NAME, weights / BASE_NAME)
        checkpoint.save(weights / ADAPTER_NAME, adapter)
        for name in ("adapter.pt", "adapter-state.pt"):
            (folder / name).unlink(missing_ok=True)
        return weights

    def starting_model(self, recipe: TinyRecipe) -> SubjectDiffusionModel:
        """The variant's model at its first step."""
        model = build_model(recipe, self.stages.vocabulary)
        load_base_into(model, tiny_base.load(self.weights / BASE_NAME), self.stages.vocabulary)
        if self.start == "weights":
            adapter = checkpoint.load(self.weights / ADAPTER_NAME)
            grounding = cut_grounding(adapter.grounding, adapter.config, model.shape)
            load_adapter_into(model, replace(adapter, grounding=grounding))
        freeze_base(model)
        return model


def stage_for(
    start: str, steps: int | None = None, learning_rate: float | None = None
) -> DiffusionRecipe:
    """The training of every variant; what is not asked for is the start's default."""
    default_steps, warmup_steps, default_rate = DEFAULTS[start]
    steps = default_steps if steps is None else steps
    return DiffusionRecipe(
        steps=steps,
        warmup_steps=min(warmup_steps, steps // 4),
        learning_rate=default_rate if learning_rate is None else learning_rate,
        base_only=0.0,
        checkpoint_every=CHECKPOINT_EVERY,
        seed=3,
    )


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


def cut_grounding(
    state: Mapping[str, Tensor], config: AdapterConfig, shape: AdapterShape
) -> dict[str, Tensor]:
    """A grounding net's weights without the position columns that ``shape`` has no more.

    ``config``: of the net that ``state`` belongs to; its columns are patch features, then the
    features of the box, then those of the patch's own box, each where switched on.
    """
    width = 8 * config.num_freqs
    columns, end = list(range(config.patch_dim)), config.patch_dim
    for name in ("box_coordinates", "patch_positions"):
        if getattr(config, name):
            if getattr(shape, name):
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
