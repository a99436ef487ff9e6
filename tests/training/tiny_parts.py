"""The tiny recipe at a fraction of its width, its world in small, its files: all real classes."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from subject_diffusion_core import checkpoint
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_vision import TinyVision
from training.bases.base_model import BaseModel
from training.bases.loading import read_tiny_base
from training.bases.vision import vision_shape
from training.dataset.batches import MicroBatch, stack
from training.dataset.catalogue import open_catalogue
from training.dataset.reference_pool import MARK, POOL_NAME
from training.dataset.samples import SubjectDataset, words_of
from training.methods.subject_diffusion.assembly import (
    adapter_config,
    adapter_from_model,
    build_model,
    is_adapter_tensor,
)
from training.methods.subject_diffusion.model import SubjectDiffusionModel
from training.networks.text import CompactVocabulary
from training.recipes import TrainingRecipe
from training.toy.autoencoder import build_autoencoder
from training.toy.block_pca import BlockBasis
from training.toy.export import base_from_model
from training.toy.files import ADAPTER_NAME, BASE_NAME
from training.toy.recipe import TinyRecipe
from training.toy.stages import TRAIN_SHARDS, untrained_base

NUM_SAMPLES, SIDE = 12, 128
CAPTION = "a truck and a cat in a forest"
HELD_OUT = "on a green lawn in a park"
VIEWS_PER_IDENTITY = 3
IDENTITIES = ("model:a", "model:b", "emoji:x:noto")


def small_recipe(**stage: object) -> TinyRecipe:
    """The tiny recipe at a fraction of its width; ``stage`` changes both stages."""
    recipe = TinyRecipe()
    unet = {**recipe.unet, "block_out_channels": [32, 64], "attention_head_dim": [2, 4]}
    unet["cross_attention_dim"] = 32
    text = {**recipe.text_encoder, "hidden_size": 32, "intermediate_size": 64}
    text |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    settings = {
        "num_subjects": 2, "grounding_hidden_dim": 32, "projector_hidden_dim": 32,
        "adapter_heads": "32:4x32 64:6x32", "global_batch_size": 4, "micro_batch_size": 4,
        "steps": 4, "warmup_steps": 2, "checkpoint_every": 2, "log_every": 2, **stage,
    }  # fmt: skip
    joint = replace(recipe.joint, **settings)  # type: ignore[arg-type]
    second = {**settings, "base_only": 0.0}
    adapter = replace(recipe.adapter, **second)  # type: ignore[arg-type]
    return replace(recipe, unet=unet, text_encoder=text, joint=joint, adapter=adapter)


def small_vocabulary() -> CompactVocabulary:
    """The words of the small world and of the template."""
    words = {token for text in (CAPTION, HELD_OUT, "the is ,") for token in words_of(text)}
    return CompactVocabulary(words | {TrainingRecipe.placeholder_token_id})


def small_base(recipe: TinyRecipe) -> BaseModel:
    """The base at the first step; its transform keeps the first values of each block."""
    basis = BlockBasis(center=torch.zeros(192), weight=torch.eye(192)[:24])
    return untrained_base(recipe, small_vocabulary(), basis)


def small_model(recipe: TinyRecipe, stage: TrainingRecipe, seed: int = 5) -> SubjectDiffusionModel:
    """The stage's model at its first step."""
    base = small_base(recipe)
    stage = replace(stage, seed=seed)
    return build_model(base, stage, vision_shape(stage, base))


def write_composites(
    folder: Path, cutouts: list[int], identities: list[str], crowded: bool = False
) -> Path:
    """A shard of noise pictures with one or two subjects (every third has three if ``crowded``),
    beside it the pool of their references, a row for each of ``cutouts``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with tarfile.open(folder / "00000.tar", "w") as archive:
        for number in range(NUM_SAMPLES):
            count = 3 if crowded and number % 3 == 0 else 1 + number % 2
            members = sample_members(rng, number, count, cutouts, identities)
            for name, content in members.items():
                member = tarfile.TarInfo(f"{number:05d}.{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    names = list(dict.fromkeys(identities))
    pool = {
        "patch_embeds": torch.from_numpy(rng.standard_normal((len(cutouts), 144, 200))).half(),
        "image_embeds": torch.from_numpy(rng.standard_normal((len(cutouts), 400))).float(),
        "cutout": torch.tensor(cutouts),
        "identity": torch.tensor([names.index(name) for name in identities]),
    }
    save_file(pool, folder / POOL_NAME, metadata={MARK: "noise"})
    return folder


def sample_members(
    rng: np.random.Generator, number: int, count: int, cutouts: list[int], identities: list[str]
) -> dict[str, bytes]:
    """The files of one sample by suffix."""
    entities, members = [], {}
    for slot in range(count):
        row = (number + 3 * slot) % len(cutouts)
        corner = 8 + 24 * slot
        mask = np.zeros((SIDE, SIDE), bool)
        mask[corner : corner + 48, corner : corner + 48] = True
        members[f"mask{slot}.png"] = png(mask)
        box = [corner / SIDE, corner / SIDE, (corner + 48) / SIDE, (corner + 48) / SIDE]
        entities.append({
            "label": ("truck", "cat", "truck")[slot], "box": box, "mask": f"mask{slot}.png",
            "identity": identities[row], "cutout": cutouts[row],
        })  # fmt: skip
    members["png"] = png(rng.integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8))
    members["json"] = json.dumps({"caption": CAPTION, "entities": entities}).encode()
    return members


def png(pixels: np.ndarray) -> bytes:
    """Pixels as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def small_world(folder: Path, crowded: bool = False) -> Path:
    """Composites of two identities with three views each and one with a single view."""
    identities = [name for name in IDENTITIES[:2] for _ in range(VIEWS_PER_IDENTITY)]
    identities.append(IDENTITIES[2])
    return write_composites(folder, list(range(len(identities))), identities, crowded)


def small_dataset(shards: Path, recipe: TinyRecipe, stage: TrainingRecipe) -> SubjectDataset:
    """The reader of a stage."""
    base = small_base(recipe)
    catalogue = open_catalogue(shards, shards.parent / f"{shards.name}-index")
    return SubjectDataset(catalogue, stage, vision_shape(stage, base), base)


def small_batch(
    shards: Path, recipe: TinyRecipe, stage: TrainingRecipe, step: int = 0
) -> MicroBatch:
    """The micro-batch of a step; pixels are not encoded."""
    dataset = small_dataset(shards, recipe, stage)
    size = stage.global_batch_size
    return stack([dataset[p] for p in range(size)])


def write_files(
    folder: Path, model: SubjectDiffusionModel, recipe: TinyRecipe, stage: TrainingRecipe
) -> SubjectDiffusionModel:
    """Both files of a model; what the adapter's file holds, on the stored base."""
    autoencoder = build_autoencoder(recipe.autoencoder)
    stored = base_from_model(model, autoencoder, TinyVision(), small_vocabulary(), recipe, {})
    tiny_base.save(folder / BASE_NAME, stored)
    base, stage = read_tiny_base(folder / BASE_NAME), replace(stage, token_table=False)
    on_base = build_model(base, stage, vision_shape(stage, base))
    own = {name: tensor for name, tensor in model.state_dict().items() if is_in_adapter(name)}
    on_base.load_state_dict(own, strict=False)
    config = adapter_config(on_base, base, stage, vision_shape(stage, base), {})
    checkpoint.save(folder / ADAPTER_NAME, adapter_from_model(on_base, config, stage))
    return on_base.eval()


def is_in_adapter(name: str) -> bool:
    """Whether the adapter's file holds this parameter of the whole model."""
    if name.endswith("token_embedding.weight"):
        return False
    own = name.removeprefix("unet.")
    return own == name or own.startswith("position_net.") or is_adapter_tensor(own)


def write_weights(folder: Path) -> Path:
    """Both files of an untrained small model whose mask kernel does something."""
    recipe = small_recipe()
    model = small_model(recipe, recipe.joint)
    with torch.no_grad():
        model.unet.conv_in.weight[:, -1] = 0.1
    write_files(folder, model, recipe, recipe.joint)
    return folder


def write_tables(work: Path) -> None:
    """The composites and references of a work folder's train cut-outs."""
    records = json.loads((work / "cutouts.json").read_text())
    train = [row for row, record in enumerate(records) if record["split"] == "train"]
    write_composites(work / TRAIN_SHARDS, train, [records[row]["identity"] for row in train])
