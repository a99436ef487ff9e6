"""The stored base as something to go on training: its words alone, not CLIP's whole table."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from transformers import CLIPTextConfig

from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_base import TOKEN_TABLE, TinyBase, compact_token_table
from subject_diffusion_core.tiny.tiny_vision import VisionGeometry
from training.bases.base_model import BaseModel, own_text_names
from training.bases.loading import tiny_vae
from training.methods.subject_diffusion.model import build_unet
from training.networks.text import CompactVocabulary, compact_text_arguments

SEED = 75
NOT_ARGUMENTS = ("in_channels", "out_channels", "attention_type")


def compact_table(stored: TinyBase) -> torch.Tensor:
    """(K + 1, D), the unknown row first: the table of the words that the base knows."""
    table = stored.text_encoder[TOKEN_TABLE]
    return compact_token_table(table, stored.token_ids).roll(1, 0)


def read_start(path: Path, *, from_nothing: bool = False) -> BaseModel:
    """The base's file over its few words; ``from_nothing`` keeps sizes, words and autoencoder."""
    stored = tiny_base.load(path)
    vocabulary = CompactVocabulary(stored.token_ids.tolist())
    sizes = compact_text_arguments(dict(stored.config["text_encoder"]), vocabulary)
    unet = {k: v for k, v in stored.config["unet"].items() if k not in NOT_ARGUMENTS}
    text = {**stored.text_encoder, TOKEN_TABLE: compact_table(stored)}
    return BaseModel(
        family="tiny",
        unet_arguments=unet,
        latent_channels=int(stored.config["vae"]["latent_channels"]),
        unet={} if from_nothing else stored.unet,
        text_config=CLIPTextConfig(**sizes),
        text={} if from_nothing else own_text_names(text),
        load_vae=partial(tiny_vae, stored),
        prediction_type=stored.config["prediction_type"],
        vision=stored.vision,
        vision_geometry=VisionGeometry.from_config(stored.config["vision"]),
        vocabulary=vocabulary,
        untrained=from_nothing,
    )


def with_attention_above(base: BaseModel) -> BaseModel:
    """``base`` with attention in the first block, too, which does nothing at first: its last layer
    is zero."""
    arguments = {**base.unet_arguments, "down_block_types": ["CrossAttnDownBlock2D"] * 2}
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        unet = build_unet(arguments, base.latent_channels).state_dict()
    new = {
        name: tensor
        for name, tensor in unet.items()
        if name.startswith("down_blocks.0.attentions.") and ".fuser." not in name
    }
    zeros = {k: torch.zeros_like(v) for k, v in new.items() if ".proj_out." in k}
    return replace(base, unet_arguments=arguments, unet={**base.unet, **new, **zeros})
