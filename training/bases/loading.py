"""The base model that a run starts from: read from local files, never downloaded.

Four forms: a diffusers folder, a single checkpoint file (Stable Diffusion's own names), the tiny
base's file, or random classes of SD2's kind at tiny width for debugging.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_base import TinyBase
from subject_diffusion_core.tiny.tiny_vision import VisionGeometry

from ..recipes.configuration import TrainingRecipe
from .architectures import TINY_WIDTH, Architecture
from .base_model import (
    BaseModel,
    StateDict,
    frozen,
    own_text_names,
    read_state,
    resolve_prediction,
)
from .single_file import read_single_file

TEXT_WIDTHS = {"sd2": 1024, "sd15": 768}
_UNET_NOT_ARGUMENTS = ("in_channels", "out_channels", "attention_type")


def load_base(path: Path | None, recipe: TrainingRecipe) -> BaseModel:
    """The base of a run, whatever form it has; checked against the recipe's family."""
    if recipe.random_base:
        return random_base(recipe)
    if path is None or not path.exists():
        raise FileNotFoundError(
            f"--base: expected a diffusers folder or a checkpoint file of {recipe.base_family}, "
            f"got {'nothing' if path is None else path}. Pass the path of one on this machine."
        )
    if recipe.base_family == "tiny":
        base = read_tiny_base(path)
    elif path.is_dir():
        base = read_diffusers_folder(path, recipe)
    else:
        base = read_single_file(path, recipe)
    width = base.unet_arguments["cross_attention_dim"]
    wanted = TEXT_WIDTHS.get(recipe.base_family, width)
    if width != wanted:
        raise CheckpointError(
            f"--base: expected {recipe.base_family} with texts of width {wanted}, got {path} with "
            f"{width}. Choose a recipe for this base, or another base."
        )
    return base


def random_base(recipe: TrainingRecipe, architecture: Architecture = TINY_WIDTH) -> BaseModel:
    """A base with random weights, always the same ones: SD2's classes at tiny width, or another
    architecture."""
    with torch.random.fork_rng():
        torch.manual_seed(20_000)
        unet = UNet2DConditionModel(**architecture.unet)
        text_config = CLIPTextConfig(**architecture.text)
        text = CLIPTextModel(text_config)

    def build_vae() -> AutoencoderKL:
        with torch.random.fork_rng():
            torch.manual_seed(20_001)
            vae: AutoencoderKL = AutoencoderKL(**architecture.vae)
            return frozen(vae)

    prediction = recipe.prediction_type
    return BaseModel(
        family=recipe.base_family,
        unet_arguments=dict(architecture.unet),
        latent_channels=4,
        unet=unet.state_dict(),
        text_config=text_config,
        text=text.state_dict(),
        load_vae=build_vae,
        prediction_type="epsilon" if prediction == "auto" else prediction,
    )


def tiny_vae(base: TinyBase) -> BlockAutoencoder:
    """The small base's autoencoder, frozen."""
    vae = BlockAutoencoder.from_config(base.config["vae"])
    vae.load_state_dict(base.vae)
    return frozen(vae)


def read_tiny_base(path: Path) -> BaseModel:
    """The small model's base file."""
    base = tiny_base.load(path)
    arguments = {k: v for k, v in base.config["unet"].items() if k not in _UNET_NOT_ARGUMENTS}
    channels = int(base.config["vae"]["latent_channels"])

    return BaseModel(
        family="tiny",
        unet_arguments=arguments,
        latent_channels=channels,
        unet=base.unet,
        text_config=CLIPTextConfig(**base.config["text_encoder"]),
        text=own_text_names(base.text_encoder),
        load_vae=partial(tiny_vae, base),
        prediction_type=base.config["prediction_type"],
        vision=base.vision,
        vision_geometry=VisionGeometry.from_config(base.config["vision"]),
    )


def read_diffusers_folder(path: Path, recipe: TrainingRecipe) -> BaseModel:
    """A folder as diffusers saves pipelines: unet, text_encoder, vae, scheduler."""
    config = read_json(path / "unet" / "config.json")
    arguments = {
        k: v for k, v in config.items() if not k.startswith("_") and k not in _UNET_NOT_ARGUMENTS
    }
    scheduler = path / "scheduler" / "scheduler_config.json"
    stated = read_json(scheduler).get("prediction_type") if scheduler.exists() else None
    text_config = CLIPTextConfig.from_pretrained(path / "text_encoder", local_files_only=True)
    return BaseModel(
        family=recipe.base_family,
        unet_arguments=arguments,
        latent_channels=int(config["in_channels"]),
        unet=read_weights(path / "unet", "diffusion_pytorch_model"),
        text_config=text_config,
        text=own_text_names(read_weights(path / "text_encoder", "model", "pytorch_model")),
        load_vae=partial(_load_kl, path / "vae"),
        prediction_type=resolve_prediction(recipe.prediction_type, stated),
    )


def _load_kl(folder: Path) -> AutoencoderKL:
    vae: AutoencoderKL = AutoencoderKL.from_pretrained(folder, local_files_only=True)
    return frozen(vae)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a diffusers folder."""
    if not path.exists():
        raise FileNotFoundError(
            f"--base: expected {path.parent.name}/{path.name} in a diffusers folder, got none in "
            f"{path.parents[1]}. Pass the folder that holds unet, text_encoder and vae."
        )
    return dict(json.loads(path.read_text(encoding="utf-8")))


def read_weights(folder: Path, *stems: str) -> StateDict:
    """Weights of one part: safetensors first (also .fp16), then a pickle read as plain tensors."""
    for stem in stems:
        for ending in ("safetensors", "fp16.safetensors", "bin"):
            if (folder / f"{stem}.{ending}").exists():
                return read_state(folder / f"{stem}.{ending}")
    raise FileNotFoundError(
        f"--base: expected {stems[0]}.safetensors in {folder}, got "
        f"{sorted(p.name for p in folder.glob('*')) or 'nothing'}. Download the whole base."
    )
