"""The stages of the tiny recipe, each resumable: packages to committed weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from subject_diffusion_core import checkpoint
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder

from ..methods.subject_diffusion.model import SubjectDiffusionModel
from ..networks.text import CompactVocabulary
from .autoencoder import build_autoencoder, fit_encoder, load_basis, train_decoder
from .batches import BatchMaker, corpus_vocabulary
from .block_pca import BlockBasis
from .build import build_model
from .data.build import build
from .data.sources import package_versions
from .data.split import assert_split, identities_sha256
from .diffusion import train_diffusion
from .export import (
    adapter_from_model,
    base_from_model,
    freeze_base,
    is_adapter_tensor,
    load_adapter_into,
    load_base_into,
)
from .latents import CompositeTable, encode_composites, load_composites
from .loading import ADAPTER_NAME, BASE_NAME
from .recipe import DiffusionRecipe, TinyRecipe
from .references import encode_references, fit_statistics, load_references
from .stored_start import StoredStart, claim_work
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


def provenance(recipe: TinyRecipe, stage: str, work: Path) -> dict[str, Any]:
    """What made the weights of ``work``, stored in their file."""
    return {
        "recipe": "tiny",
        "stage": stage,
        "split_sha256": identities_sha256(),
        "packages": package_versions(work / "raw"),
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
    start: StoredStart | None = None,
) -> None:
    """The whole recipe: packages, data, autoencoder, tables, joint stage, adapter, files.

    With ``start``, autoencoder and joint stage are the stored ones, and its adapter is trained on.
    """
    claim_work(work, start)
    build(work, packages, train_composites=recipe.num_composites)
    (work / "recipe.json").write_text(json.dumps(recipe.as_dict(), indent=2))
    run_precompute(work, recipe)
    if start is None:
        DiffusionStages(work, recipe).make_base_and_adapter(weights)
    else:
        DiffusionStages(work, recipe, start.vocabulary).go_on(start, weights)


class DiffusionStages:
    """Stages 3 and 4 over the precomputed tables in ``work``.

    Args:
        work, recipe: the folder and what is made in it.
        vocabulary: of a stored base; None takes the words of the captions.

    Raises:
        ValueError: the captions have words that ``vocabulary`` lacks.
    """

    def __init__(
        self, work: Path, recipe: TinyRecipe, vocabulary: CompactVocabulary | None = None
    ) -> None:
        self.work = work
        self.recipe = recipe
        self.records = cutout_records(work, "train")
        self.composites: CompositeTable = load_composites(work / "latents")
        pasted = np.unique(self.composites.cutout[self.composites.cutout >= 0]).tolist()
        assert_split({self.records[cutout]["identity"] for cutout in pasted}, "train")
        words = corpus_vocabulary(self.composites, scene_captions(work))
        self.vocabulary = vocabulary or words
        if missing := set(words.token_ids) - set(self.vocabulary.token_ids):
            raise ValueError(
                f"--go-on-from: expected a base that knows the captions' words, got one without "
                f"{len(missing)} of them. Train from nothing."
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

    def make_base_and_adapter(self, weights: Path) -> None:
        """Stages 3 and 4; writes both files."""
        model = self.run_joint()
        autoencoder = run_decoder(self.work, self.recipe)
        base = base_from_model(
            model,
            autoencoder,
            load_vision(self.recipe.vision, fit_statistics(self.work)),
            self.vocabulary,
            self.recipe,
            provenance(self.recipe, "joint", self.work),
        )
        weights.mkdir(parents=True, exist_ok=True)
        tiny_base.save(weights / BASE_NAME, base)
        load_frozen_base(model, weights / BASE_NAME, self.vocabulary)
        self.run_adapter(model, weights, provenance(self.recipe, "adapter", self.work))

    def go_on(self, start: StoredStart, weights: Path) -> None:
        """Stage 4 alone, on a stored base and from a stored adapter; writes both files."""
        model = build_model(self.recipe, self.vocabulary)
        load_base_into(model, start.base, self.vocabulary)
        load_adapter_into(model, start.adapter)
        weights.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(start.base_path, weights / BASE_NAME)
        made_by = provenance(self.recipe, "adapter", self.work)
        made_by |= {"start": start.sha256, "history": self.history_after(start)}
        self.run_adapter(model, weights, made_by)

    def history_after(self, start: StoredStart) -> list[str]:
        """What the stored adapter's file says of its making, and one sentence more."""
        stage = self.recipe.adapter
        before: list[str] = start.adapter.config.provenance.get("history", [])
        return [
            *before,
            f"adapter stage: {stage.steps} steps at {stage.learning_rate:g}, seed {stage.seed}, "
            f"from the adapter {start.sha256[ADAPTER_NAME][:12]}, on its base",
        ]

    def run_adapter(
        self, model: SubjectDiffusionModel, weights: Path, made_by: dict[str, Any]
    ) -> None:
        """Stage 4: the paper's trainable parts on the stored base; writes the adapter's file."""
        freeze_base(model)
        averaged = train_diffusion(
            model.to(training_device()),
            self.batches(self.recipe.adapter),
            self.recipe.adapter,
            self.work,
            "adapter",
        )
        load_averaged(model.cpu(), averaged)
        adapter = adapter_from_model(model, self.vocabulary, self.recipe, made_by)
        checkpoint.save(weights / ADAPTER_NAME, adapter, int8=True)


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
