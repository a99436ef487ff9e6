"""The architectures that recipes train on, in numbers: what is known without a base's file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..networks.text import END_TOKEN
from ..recipes.configuration import TrainingRecipe

_SD_UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
}
_SD_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Constructor arguments of a base's parts.

    Attributes:
        unet: diffusers' UNet2DConditionModel. vae: its AutoencoderKL.
        text: transformers' CLIPTextConfig.
    """

    unet: dict[str, Any]
    text: dict[str, Any]
    vae: dict[str, Any]


SD2 = Architecture(
    unet={
        **_SD_UNET,
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    text={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
    vae=_SD_VAE,
)
SD15 = Architecture(
    unet={**_SD_UNET, "attention_head_dim": 8, "cross_attention_dim": 768},
    text={"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    vae=_SD_VAE,
)
TINY_WIDTH = Architecture(
    unet={
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (32, 32, 64, 64),
        "attention_head_dim": (1, 1, 2, 2),
        "cross_attention_dim": 32,
        "use_linear_projection": True,
        "norm_num_groups": 16,
    },
    text={
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": END_TOKEN - 1,
        "eos_token_id": END_TOKEN,
        "pad_token_id": 0,
    },
    vae={
        "block_out_channels": (16, 16, 32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": 64,
    },
)
FAMILIES = {"sd2": SD2, "sd15": SD15}


def architecture_of(recipe: TrainingRecipe) -> Architecture:
    """The architecture of a recipe's base.

    Raises:
        ValueError: its family's sizes are in the base's file alone (tiny).
    """
    if recipe.random_base:
        return TINY_WIDTH
    if recipe.base_family not in FAMILIES:
        raise ValueError(
            f"base_family: expected one of {', '.join(FAMILIES)}, got {recipe.base_family!r}, "
            "whose sizes only its file knows. Choose a recipe of Stable Diffusion."
        )
    return FAMILIES[recipe.base_family]
