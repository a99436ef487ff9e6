"""Stable Diffusion 1.5 and 2 in one file, under the names of their first code."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from subject_diffusion_core.errors import CheckpointError

from ..recipes.configuration import TrainingRecipe
from .architectures import FAMILIES, Architecture
from .base_model import (
    BaseModel,
    StateDict,
    frozen,
    own_text_names,
    read_state,
    resolve_prediction,
)

UNET, VAE = "model.diffusion_model.", "first_stage_model."
OPEN_CLIP, CLIP = "cond_stage_model.model.", "cond_stage_model.transformer.text_model."


def read_single_file(
    path: Path, recipe: TrainingRecipe, architecture: Architecture | None = None
) -> BaseModel:
    """A base from one .safetensors or .ckpt file; ``architecture``: its family's, unless given."""
    try:
        state = read_state(path)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"--base: expected a readable checkpoint of plain tensors, got {path} ({error}). "
            "Use the .safetensors form."
        ) from error
    parts = (UNET, VAE, (OPEN_CLIP, CLIP))
    if not all(any(name.startswith(part) for name in state) for part in parts):
        raise CheckpointError(
            f"--base: expected a whole Stable Diffusion checkpoint (UNet, VAE and text encoder), "
            f"got {path} with {', '.join(sorted({n.split('.')[0] for n in state})[:4])}. "
            "Choose the full file, not a pruned part."
        )
    projection = next(n for n in state if n.startswith(UNET) and n.endswith("proj_in.weight"))
    family = "sd2" if state[projection].ndim == 2 else "sd15"
    if family != recipe.base_family:
        raise CheckpointError(
            f"--base: expected {recipe.base_family}, got {path}, which is {family}. "
            "Choose a recipe for this base, or another base."
        )
    architecture = architecture or FAMILIES[family]
    text_config = CLIPTextConfig(**architecture.text)
    return BaseModel(
        family=family,
        unet_arguments=dict(architecture.unet),
        latent_channels=state[f"{UNET}input_blocks.0.0.weight"].shape[1],
        unet=_wide(convert_ldm_unet_checkpoint(state, dict(architecture.unet))),
        text_config=text_config,
        text=_wide(read_text(state, text_config)),
        load_vae=partial(
            build_vae, {k: v for k, v in state.items() if k.startswith(VAE)}, architecture
        ),
        prediction_type=resolve_prediction(recipe.prediction_type, None),
    )


def _wide(state: StateDict) -> StateDict:
    return {name: tensor.float() for name, tensor in state.items()}


def read_text(state: StateDict, config: CLIPTextConfig) -> StateDict:
    """The text encoder's weights; of SD2's the layers that ``config`` has, all but the last."""
    if any(name.startswith(CLIP) for name in state):
        return own_text_names(convert_ldm_clip_checkpoint(state))
    with torch.device("meta"):
        model = CLIPTextModel(config)
    text = own_text_names(convert_open_clip_checkpoint(model, state, OPEN_CLIP))
    return {name: tensor for name, tensor in text.items() if name in model.state_dict()}


def build_vae(state: StateDict, architecture: Architecture) -> AutoencoderKL:
    """The autoencoder, frozen."""
    model: AutoencoderKL = AutoencoderKL(**architecture.vae)
    try:
        model.load_state_dict(_wide(convert_ldm_vae_checkpoint(state, dict(architecture.vae))))
    except (RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"--base: expected the autoencoder of its family, got another ({str(error)[:200]}). "
            "Choose another base."
        ) from error
    return frozen(model)
