"""The stored base as something to go on training: its words alone, not CLIP's whole table."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from transformers import CLIPTextConfig

from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_base import TOKEN_TABLE, TinyBase, compact_token_table
from subject_diffusion_core.tiny.tiny_vision import VisionGeometry

from ...bases.base_model import BaseModel, own_text_names
from ...bases.loading import tiny_vae
from ...networks.text import CompactVocabulary, compact_text_arguments

NOT_ARGUMENTS = ("in_channels", "out_channels", "attention_type")


def compact_table(stored: TinyBase) -> torch.Tensor:
    """(K + 1, D), the unknown row first: the table of the words that the base knows."""
    table = stored.text_encoder[TOKEN_TABLE]
    return compact_token_table(table, stored.token_ids).roll(1, 0)


def read_start(path: Path) -> BaseModel:
    """The base's file over its few words."""
    stored = tiny_base.load(path)
    vocabulary = CompactVocabulary(stored.token_ids.tolist())
    sizes = compact_text_arguments(dict(stored.config["text_encoder"]), vocabulary)
    unet = {k: v for k, v in stored.config["unet"].items() if k not in NOT_ARGUMENTS}
    text = {**stored.text_encoder, TOKEN_TABLE: compact_table(stored)}
    return BaseModel(
        family="tiny",
        unet_arguments=unet,
        latent_channels=int(stored.config["vae"]["latent_channels"]),
        unet=stored.unet,
        text_config=CLIPTextConfig(**sizes),
        text=own_text_names(text),
        load_vae=partial(tiny_vae, stored),
        prediction_type=stored.config["prediction_type"],
        vision=stored.vision,
        vision_geometry=VisionGeometry.from_config(stored.config["vision"]),
        vocabulary=vocabulary,
    )
