"""The stages of the tiny recipe, each resumable: packages to committed weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subject_diffusion_core import checkpoint, tiny_base
from subject_diffusion_core.block_autoencoder import BlockAutoencoder

from ..data.build import build
from ..data.split import assert_split, identities_sha256
from ..model import SubjectDiffusionModel
from ..text import CompactVocabulary
from .autoencoder import build_autoencoder, fit_encoder, load_basis, train_decoder
from .batches import BatchMaker, corpus_vocabulary
from .block_pca import BlockBasis
from .build import build_model
from .diffusion import train_diffusion
from .export import (
    adapter_from_model,
    base_from_model,
    freeze_base,
    is_adapter_tensor,
    load_base_into,
)
from .latents import CompositeTable, encode_composites, load_composites
from .recipe import DiffusionRecipe, TinyRecipe
from .references import encode_references, fit_statistics, load_references
from .vision import load_vision

TRAIN_SHARDS = "composites-train"
VALIDATION_SHARDS = "composites-val"


def training_device() -> torch.device:
    """Where the stages train: a CUDA device if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cutout_records(work: Path, split: str) -> list[dict[str, Any]]:
    """All cut-outs' records; the identities of ``split`` are checked against the split file."""
    records: list[dict[str, Any]] = json.loads((work / "cutouts.json").read_text())
    assert_split({r["identity"] for r in records if r["split"] == split}, split)
    return records


def run_encoder(work: Path, recipe: TinyRecipe) -> BlockBasis:
    """Stage 1: fit the autoencoder's encoder, or load it."""
    cutout_records(work, "train")
    return load_basis(fit_encoder(work / TRAIN_SHARDS, work, recipe.autoencoder))


def run_decoder(work: Path, recipe: TinyRecipe) -> BlockAutoencoder:
    """Train the autoencoder's decoder, or load the whole autoencoder."""
    basis = run_encoder(work, recipe)
    shards = work / TRAIN_SHARDS
    vision = load_vision(recipe.vision)
    path = train_decoder(basis, shards, work, recipe.autoencoder, vision, training_device())
    return load_autoencoder(path, recipe)


def load_autoencoder(path: Path, recipe: TinyRecipe) -> BlockAutoencoder:
    """The trained autoencoder."""
    model = build_autoencoder(recipe.autoencoder)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    return model.eval().requires_grad_(False)


def run_precompute(work: Path, recipe: TinyRecipe) -> None:
    """Stage 2: reference features and latents of the training side."""
    records = cutout_records(work, "train")
    train_rows = [index for index, record in enumerate(records) if record["split"] == "train"]
    encode_references(
        work, load_vision(recipe.vision), train_rows, recipe.num_reference_variants - 1
    )
    basis = run_encoder(work, recipe)
    encode_composites(
        work,
        work / TRAIN_SHARDS,
        "latents",
        basis,
        recipe.num_subjects,
        recipe.num_composites,
    )


def scene_captions(work: Path) -> list[str]:
    """Captions of all scenes: the base model is to know the words of the held-out ones, too."""
    return sorted(
        {scene["caption"] for scene in json.loads((work / "backgrounds.json").read_text())}
    )


def provenance(recipe: TinyRecipe, stage: str) -> dict[str, Any]:
    """What made the weights, stored in their file."""
    return {
        "recipe": "tiny",
        "stage": stage,
        "split_sha256": identities_sha256(),
        **recipe.as_dict(),
    }


def load_averaged(model: SubjectDiffusionModel, averaged: dict[str, Tensor]) -> None:
    """Copy a stage's averaged weights into an fp32 model."""
    model.float().load_state_dict(averaged, strict=False)


def run_all(
    work: Path,
    weights: Path,
    recipe: TinyRecipe,
    *,
    packages: Path | None = None,
) -> None:
    """The whole recipe: packages, data, autoencoder, tables, joint stage, adapter, files."""
    build(work, packages, train_composites=recipe.num_composites)
    (work / "recipe.json").write_text(json.dumps(recipe.as_dict(), indent=2))
    run_precompute(work, recipe)
    DiffusionStages(work, recipe).run_adapter(weights)


class DiffusionStages:
    """Stages 3 and 4 over the precomputed tables in ``work``."""

    def __init__(self, work: Path, recipe: TinyRecipe) -> None:
        self.work = work
        self.recipe = recipe
        self.records = cutout_records(work, "train")
        self.composites: CompositeTable = load_composites(work / "latents")
        pasted = np.unique(self.composites.cutout[self.composites.cutout >= 0]).tolist()
        assert_split({self.records[cutout]["identity"] for cutout in pasted}, "train")
        self.vocabulary: CompactVocabulary = corpus_vocabulary(
            self.composites, scene_captions(work)
        )

    def batches(self, stage: DiffusionRecipe) -> BatchMaker:
        """The batches of a stage."""
        references = load_references(self.work)
        return BatchMaker(
            self.composites,
            references,
            self.records,
            self.vocabulary,
            stage,
            self.recipe.num_subjects,
        )

    def run_joint(self) -> SubjectDiffusionModel:
        """Stage 3: everything together from scratch; its base alone is the text-to-image model."""
        model = build_model(self.recipe, self.vocabulary).to(training_device())
        averaged = train_diffusion(
            model, self.batches(self.recipe.joint), self.recipe.joint, self.work, "joint"
        )
        load_averaged(model.cpu(), averaged)
        return model

    def run_adapter(self, weights: Path) -> None:
        """Stage 4: the paper's trainable parts on the stored base; writes both files."""
        model = self.run_joint()
        autoencoder = run_decoder(self.work, self.recipe)
        base = base_from_model(
            model,
            autoencoder,
            load_vision(self.recipe.vision, fit_statistics(self.work)),
            self.vocabulary,
            self.recipe,
            provenance(self.recipe, "joint"),
        )
        weights.mkdir(parents=True, exist_ok=True)
        tiny_base.save(weights / "tiny_base.safetensors", base)
        load_frozen_base(model, weights / "tiny_base.safetensors", self.vocabulary)
        freeze_base(model)
        averaged = train_diffusion(
            model.to(training_device()),
            self.batches(self.recipe.adapter),
            self.recipe.adapter,
            self.work,
            "adapter",
        )
        load_averaged(model.cpu(), averaged)
        made_by = provenance(self.recipe, "adapter")
        adapter = adapter_from_model(model, self.vocabulary, self.recipe, made_by)
        checkpoint.save(weights / "tiny_adapter.safetensors", adapter, int8=True)


def load_frozen_base(
    model: SubjectDiffusionModel, path: Path, vocabulary: CompactVocabulary
) -> None:
    """Put the stored, 8-bit base under the adapter; what stage 4 trains keeps its own values."""
    trained = {n: p.clone() for n, p in model.state_dict().items() if is_trained_in_stage_4(n)}
    load_base_into(model, tiny_base.load(path), vocabulary)
    model.load_state_dict(trained, strict=False)


def is_trained_in_stage_4(name: str) -> bool:
    """Whether the adapter's file holds this parameter of the whole model."""
    if name.endswith("token_embedding.weight"):
        return False
    return not name.startswith("unet.") or is_adapter_tensor(name.removeprefix("unet."))
