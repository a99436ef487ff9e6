"""Builds the trainable model of the tiny recipe."""

from __future__ import annotations

from dataclasses import asdict

import torch

from subject_diffusion_core.gated_attention import GatedSelfAttention

from ..bases.vision import tiny_vision_shape
from ..methods.subject_diffusion.local_start import start_locally
from ..methods.subject_diffusion.model import AdapterShape, SubjectDiffusionModel, build_unet
from ..networks.text import CompactVocabulary, build_text_encoder
from .recipe import TinyRecipe


def adapter_shape(recipe: TinyRecipe) -> AdapterShape:
    """Options and sizes of the Subject-Diffusion modules."""
    return AdapterShape.from_options(
        recipe,
        **asdict(tiny_vision_shape(recipe.vision)),
        adapter=recipe.adapter_layer,
        image_cls=recipe.image_cls,
        initial_alpha_attn=recipe.initial_alpha_attn,
        initial_alpha_dense=recipe.initial_alpha_dense,
        heads={w: (n, recipe.adapter_head_dim) for w, n in recipe.adapter_heads.items()},
    )


def build_model(
    recipe: TinyRecipe, vocabulary: CompactVocabulary, seed: int = 0
) -> SubjectDiffusionModel:
    """The untrained model; weights are a function of ``seed``."""
    torch.manual_seed(seed)
    unet = build_unet(recipe.unet, recipe.autoencoder.latent_channels)
    text_encoder = build_text_encoder(recipe.text_encoder, vocabulary)
    model = SubjectDiffusionModel(unet, text_encoder, adapter_shape(recipe))
    if recipe.local_start and recipe.query_positions:
        sizes = {
            width: 2**level / recipe.unet["sample_size"]
            for level, width in enumerate(recipe.unet["block_out_channels"])
        }
        for module in unet.modules():
            if isinstance(module, GatedSelfAttention):
                cell_size = sizes[module.query_dim]
                start_locally(module, cell_size, recipe.num_freqs, recipe.temperature)
    return model
