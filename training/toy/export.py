"""Turns trained modules into the two files that people load: the tiny base and the tiny adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from subject_diffusion_core.files.adapter import Adapter
from subject_diffusion_core.files.adapter_config import AdapterConfig
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_vision import TinyVision

from ..bases.vision import tiny_vision_shape
from ..methods.subject_diffusion.adapter_files import (
    TOKEN_TABLE,
    adapter_blocks,
    closed_gates,
    constant_projector,
    is_adapter_tensor,
    with_text_prefix,
)
from ..methods.subject_diffusion.model import SubjectDiffusionModel
from ..networks.text import END_TOKEN, CompactVocabulary
from .recipe import TinyRecipe

ADAPTER_ONLY = ("fuser.", "position_net.")


def full_token_table(compact: Tensor, vocabulary: CompactVocabulary) -> Tensor:
    """(K + 1, D), the unknown row first, to CLIP's (49408, D)."""
    token_ids = torch.tensor(vocabulary.token_ids)
    return tiny_base.expand_token_table(compact.roll(-1, 0), token_ids, END_TOKEN + 1)


def compact_token_table(table: Tensor, vocabulary: CompactVocabulary) -> Tensor:
    """Undo :func:`full_token_table`."""
    token_ids = torch.tensor(vocabulary.token_ids)
    return tiny_base.compact_token_table(table, token_ids).roll(1, 0)


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
        "vision": {
            "class": "TinyVision",
            **asdict(recipe.vision),
        },
        "prediction_type": "v_prediction",
        "scheduler": {
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
        },
        "scaling_factor": 1.0,
        "image_size": recipe.image_size,
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


def adapter_from_model(
    model: SubjectDiffusionModel,
    vocabulary: CompactVocabulary,
    recipe: TinyRecipe,
    provenance: Mapping[str, Any],
) -> Adapter:
    """Everything that Subject-Diffusion adds to the base, as fp16 tensors."""
    shape = model.shape
    width = recipe.unet["cross_attention_dim"]
    config = AdapterConfig.from_options(
        recipe,
        **asdict(tiny_vision_shape(recipe.vision)),
        base_family="tiny",
        latent_channels=recipe.autoencoder.latent_channels,
        cross_attention_dim=width,
        grounding_out_dim=width,
        projector_out_dim=recipe.text_encoder["hidden_size"],
        adapter_blocks=adapter_blocks(model),
        prediction_type="v_prediction",
        provenance=dict(provenance),
    )
    unet = {k: v for k, v in model.unet.state_dict().items() if is_adapter_tensor(k)}
    text = {with_text_prefix(k): v for k, v in model.text_encoder.state_dict().items()}
    token_table = text.pop(TOKEN_TABLE)
    mlp = dict(model.mlp.state_dict())
    if not shape.adapter:
        unet = closed_gates(unet)
    if not shape.image_cls:
        row = vocabulary.compact(torch.tensor(config.placeholder_token_id))
        mlp = constant_projector(mlp, token_table[row])
    parts = {
        "unet": unet,
        "text_encoder": text,
        "grounding": model.grounding.state_dict(),
        "mlp": mlp,
    }
    halved = {part: {k: v.half() for k, v in tensors.items()} for part, tensors in parts.items()}
    return Adapter(config=config, **halved)


def load_base_into(
    model: SubjectDiffusionModel, base: tiny_base.TinyBase, vocabulary: CompactVocabulary
) -> None:
    """Copy the stored (8-bit) base into the model; the mask's kernel and the adapters stay."""
    unet = dict(base.unet)
    conv_in = model.unet.conv_in.weight.detach().clone()
    conv_in[:, : base.unet["conv_in.weight"].shape[1]] = base.unet["conv_in.weight"]
    unet["conv_in.weight"] = conv_in
    missing, unexpected = model.unet.load_state_dict(unet, strict=False)
    if unexpected or any(not any(p in name for p in ADAPTER_ONLY) for name in missing):
        raise ValueError(f"base: expected this UNet's weights, got {unexpected} without {missing}.")
    own_names = {with_text_prefix(name): name for name in model.text_encoder.state_dict()}
    text = {**base.text_encoder, TOKEN_TABLE: compact_token_table(
        base.text_encoder[TOKEN_TABLE], vocabulary)}  # fmt: skip
    model.text_encoder.load_state_dict({own_names[name]: value for name, value in text.items()})


def load_adapter_into(model: SubjectDiffusionModel, adapter: Adapter) -> None:
    """Copy an adapter's weights into a model that already holds its base."""
    model.unet.load_state_dict(adapter.unet, strict=False)
    own_names = {with_text_prefix(name): name for name in model.text_encoder.state_dict()}
    text = {own_names[name]: value for name, value in adapter.text_encoder.items()}
    model.text_encoder.load_state_dict(text, strict=False)
    model.grounding.load_state_dict(adapter.grounding)
    model.mlp.load_state_dict(adapter.mlp)


def freeze_base(model: SubjectDiffusionModel) -> None:
    """Leave trainable what the paper trains: adapters, grounding, mlp, conv_in, K/V, text.

    What the model's shape switches off stays frozen.
    """
    shape = model.shape
    model.requires_grad_(False)
    model.text_encoder.requires_grad_(True)
    model.mlp.requires_grad_(shape.image_cls)
    model.grounding.requires_grad_(shape.adapter)
    for name, parameter in model.unet.named_parameters():
        if is_adapter_tensor(name):
            parameter.requires_grad_(shape.adapter or ".fuser." not in name)
    for name, parameter in model.text_encoder.named_parameters():
        if name.endswith("token_embedding.weight"):
            parameter.requires_grad_(False)
