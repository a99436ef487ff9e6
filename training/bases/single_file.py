"""Stable Diffusion 1.5 and 2 in one file, under the names of their first code.

The geometry is read from the weights, so no configuration has to be found or downloaded.
"""

from __future__ import annotations

import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from safetensors.torch import load_file
from transformers import CLIPTextConfig

from subject_diffusion_core.errors import CheckpointError

from ..recipes.configuration import TrainingRecipe
from .base_model import BaseModel, StateDict, own_text_names, resolve_prediction

UNET, VAE = "model.diffusion_model.", "first_stage_model."
OPEN_CLIP, CLIP = "cond_stage_model.model.", "cond_stage_model.transformer.text_model."
HEAD_DIM_SD2, HEADS_SD15, TEXT_HEAD_DIM = 64, 8, 64
VAE_SCALING = 0.18215
_OPEN_CLIP_NAMES = (
    ("ln_final.", "final_layer_norm."),
    ("token_embedding.", "embeddings.token_embedding."),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("transformer.resblocks.", "encoder.layers."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
)


def read_single_file(path: Path, recipe: TrainingRecipe) -> BaseModel:
    """A base from one .safetensors or .ckpt file."""
    state = _read(path)
    prefixes = (UNET, VAE)
    has_text = any(name.startswith((OPEN_CLIP, CLIP)) for name in state)
    if not has_text or not all(any(n.startswith(p) for n in state) for p in prefixes):
        raise CheckpointError(
            f"--base: expected a whole Stable Diffusion checkpoint (UNet, VAE and text encoder), "
            f"got {path} with {', '.join(sorted({n.split('.')[0] for n in state})[:4])}. "
            "Choose the full file, not a pruned part."
        )
    arguments = unet_arguments(_below(state, UNET))
    family = "sd2" if arguments["use_linear_projection"] else "sd15"
    if family != recipe.base_family:
        raise CheckpointError(
            f"--base: expected {recipe.base_family}, got {path}, which is {family}. "
            "Choose a recipe for this base, or another base."
        )
    text_config, text = read_text(state)
    return BaseModel(
        family=family,
        unet_arguments=arguments,
        latent_channels=state[f"{UNET}input_blocks.0.0.weight"].shape[1],
        unet={k: v.float() for k, v in convert_ldm_unet_checkpoint(state, dict(arguments)).items()},
        text_config=text_config,
        text=own_text_names(text),
        load_vae=partial(build_vae, {k: v for k, v in state.items() if k.startswith(VAE)}),
        prediction_type=resolve_prediction(recipe.prediction_type, None),
    )


def _read(path: Path) -> StateDict:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(
            f"--base: expected a readable checkpoint of plain tensors, got {path} ({error}). "
            "Use the .safetensors form."
        ) from error
    return dict(loaded.get("state_dict", loaded))


def _below(state: StateDict, prefix: str) -> StateDict:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def unet_arguments(unet: StateDict) -> dict[str, Any]:
    """diffusers' constructor arguments, from the shapes of a UNet under its first names."""
    widths: list[int] = []
    crossed: list[bool] = []
    layers = 0
    number = 1
    level: list[tuple[int, bool]] = []
    while any(name.startswith(f"input_blocks.{number}.") for name in unet):
        if f"input_blocks.{number}.0.op.weight" not in unet:
            width = unet[f"input_blocks.{number}.0.out_layers.3.weight"].shape[0]
            level.append((width, f"input_blocks.{number}.1.norm.weight" in unet))
        following = f"input_blocks.{number + 1}."
        ends = f"input_blocks.{number + 1}.0.op.weight" in unet
        if ends or not any(name.startswith(following) for name in unet):
            widths.append(level[-1][0])
            crossed.append(level[-1][1])
            layers = len(level)
            level = []
            number += 1  # over the downsampler
        number += 1
    block = next(n for n in unet if n.endswith("transformer_blocks.0.attn2.to_k.weight"))
    linear = unet[block.split("transformer_blocks")[0] + "proj_in.weight"].ndim == 2
    down = tuple("CrossAttnDownBlock2D" if c else "DownBlock2D" for c in crossed)
    up = tuple("CrossAttnUpBlock2D" if c else "UpBlock2D" for c in reversed(crossed))
    heads = tuple(width // HEAD_DIM_SD2 for width in widths) if linear else HEADS_SD15
    return {
        "block_out_channels": tuple(widths),
        "layers_per_block": layers,
        "down_block_types": down,
        "up_block_types": up,
        "cross_attention_dim": unet[block].shape[1],
        "attention_head_dim": heads,
        "use_linear_projection": linear,
        "sample_size": 64,
    }


def read_text(state: StateDict) -> tuple[CLIPTextConfig, StateDict]:
    """Configuration and weights of the text encoder; of SD2's all layers but the last, as it is
    used."""
    sd1 = _below(state, CLIP)
    text = sd1 or open_clip_to_transformers(_below(state, OPEN_CLIP))
    layers = 1 + max(int(m[1]) for n in text if (m := re.match(r"encoder\.layers\.(\d+)\.", n)))
    layers -= 0 if sd1 else 1
    table = text["embeddings.token_embedding.weight"]
    config = CLIPTextConfig(
        vocab_size=table.shape[0],
        hidden_size=table.shape[1],
        intermediate_size=text["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=max(1, table.shape[1] // TEXT_HEAD_DIM),
        hidden_act="quick_gelu" if sd1 else "gelu",
        bos_token_id=49406,
        eos_token_id=49407,
    )
    beyond = f"encoder.layers.{layers}."
    kept = {k: v.float() for k, v in text.items() if not k.startswith(beyond)}
    return config, {k: v for k, v in kept.items() if not k.endswith("position_ids")}


def open_clip_to_transformers(text: StateDict) -> StateDict:
    """open_clip's names of a text tower to transformers'; one matrix of q, k, v becomes three."""
    converted: StateDict = {}
    for name, tensor in text.items():
        if name in ("text_projection", "logit_scale", "attn_mask"):
            continue
        for old, new in _OPEN_CLIP_NAMES:
            name = name.replace(old, new)
        if ".attn.in_proj_" in name:
            stem, kind = name.split(".attn.in_proj_")
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                converted[f"{stem}.self_attn.{letter}_proj.{kind}"] = part
        else:
            converted[name] = tensor
    return converted


def build_vae(state: StateDict) -> AutoencoderKL:
    """The autoencoder, its widths read from the weights."""
    vae = _below(state, VAE)
    levels = 1 + max(int(n.split(".")[2]) for n in vae if n.startswith("encoder.down."))
    blocks = 1 + max(int(n.split(".")[4]) for n in vae if n.startswith("encoder.down.0.block."))
    widths = tuple(vae[f"encoder.down.{i}.block.0.conv2.weight"].shape[0] for i in range(levels))
    config = {
        "block_out_channels": widths,
        "layers_per_block": blocks,
        "latent_channels": vae["decoder.conv_in.weight"].shape[1],
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "scaling_factor": VAE_SCALING,
    }
    model: AutoencoderKL = AutoencoderKL(**config)
    converted = convert_ldm_vae_checkpoint(state, config)
    model.load_state_dict({k: v.float() for k, v in converted.items()})
    model.eval().requires_grad_(False)
    return model
