"""Builds a sampler from the two files that people load: the tiny base and the tiny adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.adapter_config import AdapterConfig
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_base import TinyBase
from subject_diffusion_core.tiny.tiny_vision import TinyVision, VisionGeometry

from ..networks.text import CompactVocabulary
from ..sampling import TinySampler
from .build import build_model
from .export import load_adapter_into, load_base_into
from .recipe import AutoencoderRecipe, TinyRecipe

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BASE_NAME, ADAPTER_NAME = "tiny_base.safetensors", "tiny_adapter.safetensors"


def recipe_of_files(base: TinyBase, adapter: AdapterConfig) -> TinyRecipe:
    """The recipe's sizes and options as the two files state them; the rest are defaults."""
    unet: dict[str, Any] = dict(base.config["unet"])
    channels = unet.pop("in_channels")
    unet.pop("out_channels")
    text_encoder: dict[str, Any] = dict(base.config["text_encoder"])
    text_encoder.pop("vocab_size")
    return TinyRecipe.from_options(
        adapter,
        image_size=base.config["image_size"],
        vision=VisionGeometry.from_config(base.config["vision"]),
        adapter_heads={block.query_dim: block.num_heads for block in adapter.adapter_blocks},
        adapter_head_dim=adapter.adapter_blocks[0].head_dim,
        unet=unet,
        text_encoder=text_encoder,
        autoencoder=AutoencoderRecipe(latent_channels=channels),
    )


def autoencoder_of_base(base: TinyBase) -> BlockAutoencoder:
    """The base's autoencoder."""
    autoencoder = BlockAutoencoder.from_config(base.config["vae"])
    autoencoder.load_state_dict(base.vae)
    return autoencoder.eval().requires_grad_(False)


def vision_of_base(base: TinyBase) -> TinyVision:
    """The base's image encoder."""
    vision = TinyVision(VisionGeometry.from_config(base.config["vision"]))
    vision.load_state_dict(base.vision)
    return vision.eval().requires_grad_(False)


def load_sampler(
    weights: Path,
    *,
    use_adapter: bool = True,
    steps: int = 20,
    text_guidance_scale: float = 4.0,
    image_guidance_scale: float = 5.0,
    precision: str = "float32",
) -> TinySampler:
    """The sampler of the weights in a folder.

    Args:
        weights: folder with ``tiny_base.safetensors`` and ``tiny_adapter.safetensors``.
        use_adapter: False leaves the adapter's weights out: the plain base model.
        steps, text_guidance_scale, image_guidance_scale: see :class:`TinySampler`.
        precision: of UNet and text encoder, "float32" or "bfloat16".
    """
    base = tiny_base.load(weights / BASE_NAME)
    adapter = checkpoint.load(weights / ADAPTER_NAME)
    recipe = recipe_of_files(base, adapter.config)
    vocabulary = CompactVocabulary(base.token_ids.tolist())
    model = build_model(recipe, vocabulary)
    load_base_into(model, base, vocabulary)
    if use_adapter:
        load_adapter_into(model, adapter)
    return TinySampler(
        model.requires_grad_(False).to(PRECISIONS[precision]),
        autoencoder_of_base(base),
        vision_of_base(base),
        vocabulary,
        num_slots=recipe.num_subjects,
        steps=steps,
        text_guidance_scale=text_guidance_scale,
        image_guidance_scale=image_guidance_scale,
        use_adapter=use_adapter,
        image_size=recipe.image_size,
    )
