"""The stages of the tiny recipe, each resumable: packages to committed weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny

from ..data.split import assert_split
from .autoencoder import build_autoencoder, train_autoencoder
from .latents import encode_composites
from .recipe import TinyRecipe
from .references import encode_references
from .vision import load_vision

TRAIN_SHARDS = "composites-train"
VALIDATION_SHARDS = "composites-val"


def cutout_records(work: Path, split: str) -> list[dict[str, Any]]:
    """All cut-outs' records; the identities of ``split`` are checked against the split file."""
    records: list[dict[str, Any]] = json.loads((work / "cutouts.json").read_text())
    assert_split({r["identity"] for r in records if r["split"] == split}, split)
    return records


def run_autoencoder(work: Path, recipe: TinyRecipe) -> AutoencoderTiny:
    """Stage 1, or its stored result."""
    cutout_records(work, "train")
    path = train_autoencoder(work / TRAIN_SHARDS, work, recipe.autoencoder, load_vision())
    return load_autoencoder(path, recipe)


def load_autoencoder(path: Path, recipe: TinyRecipe) -> AutoencoderTiny:
    """The trained autoencoder."""
    model = build_autoencoder(recipe.autoencoder)
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    return model.eval().requires_grad_(False)


def run_precompute(work: Path, recipe: TinyRecipe) -> None:
    """Stage 2: reference features and latents of the training side."""
    records = cutout_records(work, "train")
    train_rows = [index for index, record in enumerate(records) if record["split"] == "train"]
    encode_references(work, load_vision(), train_rows, recipe.num_reference_variants - 1)
    autoencoder = run_autoencoder(work, recipe)
    encode_composites(work, work / TRAIN_SHARDS, "latents", autoencoder, recipe.num_subjects)
