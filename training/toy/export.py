"""Turns trained modules into the small base's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_vision import TinyVision

from ..bases.base_model import SCHEDULE
from ..methods.subject_diffusion.assembly import TOKEN_TABLE, with_text_prefix
from ..methods.subject_diffusion.model import SubjectDiffusionModel
from ..networks.text import END_TOKEN, CompactVocabulary
from .recipe import TinyRecipe

ADAPTER_ONLY = ("fuser.", "position_net.")


def full_token_table(compact: Tensor, vocabulary: CompactVocabulary) -> Tensor:
    """(K + 1, D), the unknown row first, to CLIP's (49408, D)."""
    token_ids = torch.tensor(vocabulary.token_ids)
    return tiny_base.expand_token_table(compact.roll(-1, 0), token_ids, END_TOKEN + 1)


def base_from_model(
    model: SubjectDiffusionModel,
    autoencoder: BlockAutoencoder,
    vision: TinyVision,
    vocabulary: CompactVocabulary,
    recipe: TinyRecipe,
    provenance: Mapping[str, Any],
) -> tiny_base.TinyBase:
    """The text-to-image model alone: no adapters, no mask channel."""
    channels = recipe.autoencoder.latent_channels
    unet = {
        name: tensor.float()
        for name, tensor in model.unet.state_dict().items()
        if not any(part in name for part in ADAPTER_ONLY)
    }
    unet["conv_in.weight"] = unet["conv_in.weight"][:, :channels].clone()
    text = {with_text_prefix(k): v.float() for k, v in model.text_encoder.state_dict().items()}
    text[TOKEN_TABLE] = full_token_table(text[TOKEN_TABLE], vocabulary)
    config = {
        "unet": {**recipe.unet, "in_channels": channels, "out_channels": channels},
        "vae": {"class": "BlockAutoencoder", **autoencoder.sizes},
        "text_encoder": {**recipe.text_encoder, "vocab_size": END_TOKEN + 1},
        "vision": {"class": "TinyVision", **asdict(recipe.vision)},
        "prediction_type": "v_prediction",
        "scheduler": {**SCHEDULE, "num_train_timesteps": 1000},
        "scaling_factor": 1.0,
        "image_size": recipe.joint.resolution,
        "provenance": dict(provenance),
    }
    return tiny_base.TinyBase(
        config=config,
        unet=unet,
        vae={name: tensor.float() for name, tensor in autoencoder.state_dict().items()},
        text_encoder=text,
        vision={name: tensor.float() for name, tensor in vision.state_dict().items()},
        token_ids=torch.tensor(vocabulary.token_ids),
    )
