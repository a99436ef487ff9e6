"""The two files of the small model: their names and what they hold."""

from __future__ import annotations

from dataclasses import fields

from subject_diffusion_core.adapter_options import AdapterOptions
from subject_diffusion_core.files.adapter_config import AdapterConfig

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
