"""The two files of the small model: their names and what they hold."""

from __future__ import annotations

from dataclasses import fields

from subject_diffusion_core.adapter_options import AdapterOptions
from subject_diffusion_core.files.adapter_config import AdapterConfig
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_base import TinyBase
from subject_diffusion_core.tiny.tiny_vision import TinyVision, VisionGeometry

from ..recipes import TrainingRecipe, recipe_named

BASE_NAME, ADAPTER_NAME = "tiny_base.safetensors", "tiny_adapter.safetensors"


def recipe_of_file(config: AdapterConfig) -> TrainingRecipe:
    """The recipe of an adapter's second stage with the sizes and options of a file."""
    stage = recipe_named("tiny_second")
    heads = {block.query_dim: (block.num_heads, block.head_dim) for block in config.adapter_blocks}
    named = " ".join(f"{width}:{number}x{size}" for width, (number, size) in heads.items())
    options = {field.name for field in fields(AdapterOptions)}
    own = {name: value for name, value in stage.as_dict().items() if name not in options}
    own |= {"adapter_heads": named, "local_start": config.query_positions}
    return TrainingRecipe.from_options(config, **own)


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
