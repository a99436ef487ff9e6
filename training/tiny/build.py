"""Builds the trainable model of the tiny recipe."""

from __future__ import annotations

import torch

from subject_diffusion_core.gated_attention import GatedSelfAttention

from ..model import AdapterShape, SubjectDiffusionModel, build_unet
from ..text import CompactVocabulary, build_text_encoder
from .local_start import start_locally
from .recipe import TinyRecipe


def adapter_shape(recipe: TinyRecipe) -> AdapterShape:
    """Sizes of the Subject-Diffusion modules."""
    return AdapterShape(
        patch_dim=recipe.vision.patch_dim,
        image_embed_dim=recipe.vision.image_embed_dim,
        num_patches=recipe.vision.num_patches,
        grounding_hidden_dim=recipe.grounding_hidden_dim,
        projector_hidden_dim=recipe.projector_hidden_dim,
        num_freqs=recipe.num_freqs,
        temperature=recipe.temperature,
        location_control=recipe.location_control,
        box_coordinates=recipe.box_coordinates,
        adapter=recipe.adapter_layer,
        image_cls=recipe.image_cls,
        patch_positions=recipe.patch_positions,
        query_positions=recipe.query_positions,
        token_positions=recipe.token_positions,
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
