"""Small tables and recipes with real classes, for tests of the diffusion stages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from subject_diffusion_core import checkpoint
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_vision import TinyVision
from training.toy.autoencoder import build_autoencoder
from training.toy.batches import BatchMaker, corpus_vocabulary
from training.toy.build import build_model
from training.toy.export import adapter_from_model, base_from_model
from training.toy.latents import CompositeTable
from training.toy.loading import ADAPTER_NAME, BASE_NAME
from training.toy.recipe import DiffusionRecipe, TinyRecipe
from training.toy.references import ReferenceTable

NUM_SAMPLES = 12
VIEWS_PER_IDENTITY = 3


def small_recipe(**stage: object) -> TinyRecipe:
    """The tiny recipe at a fraction of its width."""
    recipe = TinyRecipe()
    unet = {**recipe.unet, "block_out_channels": [32, 64], "attention_head_dim": [2, 4]}
    unet["cross_attention_dim"] = 32
    text = {**recipe.text_encoder, "hidden_size": 32, "intermediate_size": 64}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    settings = {"batch_size": 4, "steps": 4, "warmup_steps": 2, "checkpoint_every": 2, **stage}
    joint = replace(DiffusionRecipe(), **settings)
    return replace(
        recipe,
        num_subjects=2,
        unet=unet,
        text_encoder=text,
        adapter_heads={32: 4, 64: 6},
        grounding_hidden_dim=32,
        projector_hidden_dim=32,
        joint=joint,
        adapter=replace(joint, base_only=0.0),
    )


def cutout_records() -> list[dict[str, object]]:
    """Two identities with three views each, and one with a single view."""
    many = [
        {"identity": f"model:{name}", "view": [0.0, 0.0, 1.0]}
        for name in ("a", "b")
        for _ in range(VIEWS_PER_IDENTITY)
    ]
    return [*many, {"identity": "emoji:x:noto", "view": None}]


def composite_table(seed: int = 0) -> CompositeTable:
    """Random latents with one or two subjects a sample."""
    rng = np.random.default_rng(seed)
    cutout = np.array([[i % 7, -1 if i % 2 else (i + 3) % 7] for i in range(NUM_SAMPLES)], np.int32)
    corners = rng.uniform(0, 0.5, (NUM_SAMPLES, 2, 2))
    return CompositeTable(
        latents=rng.standard_normal((NUM_SAMPLES, 24, 16, 16)).astype(np.float16),
        boxes_xyxy=np.concatenate([corners, corners + 0.4], -1).astype(np.float32),
        segmaps=rng.integers(0, 255, (NUM_SAMPLES, 2, 16, 16)).astype(np.uint8),
        cutout=cutout,
        captions=["a truck and a cat in a forest"] * NUM_SAMPLES,
        labels=[["truck"] if i % 2 else ["truck", "cat"] for i in range(NUM_SAMPLES)],
    )


def reference_table(seed: int = 1) -> ReferenceTable:
    """Random features, one row a cut-out."""
    rng = np.random.default_rng(seed)
    rows = len(cutout_records())
    return ReferenceTable(
        patch_embeds=rng.standard_normal((rows, 144, 200)).astype(np.float16),
        image_embeds=rng.standard_normal((rows, 400)).astype(np.float32),
        cutout=np.arange(rows),
        rows={row: [row] for row in range(rows)},
    )


def with_crowded_samples(table: CompositeTable) -> CompositeTable:
    """The table with four slots; every third sample has three subjects."""
    slots = ((0, 0), (0, 2))
    cutout = np.pad(table.cutout, slots, constant_values=-1)
    cutout[::3, :3] = [0, 3, 6]
    return replace(
        table,
        cutout=cutout,
        boxes_xyxy=np.pad(table.boxes_xyxy, (*slots, (0, 0))),
        segmaps=np.pad(table.segmaps, (*slots, (0, 0), (0, 0))),
    )


def batch_maker(recipe: TinyRecipe, crowded: bool = False) -> BatchMaker:
    """Batches over the random tables."""
    table = with_crowded_samples(composite_table()) if crowded else composite_table()
    vocabulary = corpus_vocabulary(table, [])
    return BatchMaker(
        table, reference_table(), cutout_records(), vocabulary, recipe.joint, recipe.num_subjects
    )


def write_weights(folder: Path) -> Path:
    """Both files of an untrained small model."""
    recipe = small_recipe()
    vocabulary = corpus_vocabulary(composite_table(), ["on a green lawn in a park"])
    model = build_model(recipe, vocabulary, seed=5)
    with torch.no_grad():
        model.unet.conv_in.weight[:, -1] = 0.1
    autoencoder = build_autoencoder(recipe.autoencoder)
    base = base_from_model(model, autoencoder, TinyVision(), vocabulary, recipe, {})
    tiny_base.save(folder / BASE_NAME, base)
    checkpoint.save(folder / ADAPTER_NAME, adapter_from_model(model, vocabulary, recipe, {}))
    return folder
