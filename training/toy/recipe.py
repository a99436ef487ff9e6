"""The tiny model's recipe: every number of its training, in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from subject_diffusion_core.tiny.tiny_vision import FINE_BLOCK, VisionGeometry

from ..recipes import TrainingRecipe, recipe_named
from .text.settings import TextRecipe

GOING_ON_WARMUP_STEPS = 30


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe:
    """Autoencoder of 8x8 pixel blocks, 128 px to 16x16 latents.

    The encoder is a fixed linear transform (``block_pca.py``), fitted to half of ``num_images``
    pictures; the decoder is trained on crops of all of them, at any time after it. Its loss
    compares the vision encoder's features behind ``perceptual_blocks`` (strides 4 and 8).
    ``border_weight`` is that of the error of steps between blocks, which would show as a grid.
    ``latent_noise``: least and most standard deviation of the noise that the decoder learns under,
    drawn for each picture.
    """

    latent_channels: int = 24
    crop: int = 64
    batch_size: int = 16
    steps: int = 3200
    warmup_steps: int = 100
    learning_rate: float = 1e-3
    num_images: int = 6000
    latent_noise: tuple[float, float] = (0.0, 0.3)
    perceptual_weight: float = 0.2
    perceptual_blocks: tuple[int, ...] = (2, FINE_BLOCK)
    color_weight: float = 4.0
    border_weight: float = 1.0
    checkpoint_every: int = 200
    seed: int = 0

    def going_on(self, steps: int) -> AutoencoderRecipe:
        """For a decoder that was trained before and gets ``steps`` more."""
        return replace(self, steps=steps, warmup_steps=min(GOING_ON_WARMUP_STEPS, steps))


@dataclass(frozen=True, kw_only=True)
class TinyRecipe:
    """The whole recipe; ``unet``, ``text_encoder`` are diffusers' and transformers' arguments.

    ``joint``, ``text``, ``adapter``: the stages of the common loop: everything from nothing, then
    the base alone, then Subject-Diffusion's parts on the stored base.
    """

    vision: VisionGeometry = field(default_factory=VisionGeometry)
    num_reference_variants: int = 3
    num_composites: int = 60_000
    unet: dict[str, Any] = field(
        default_factory=lambda: {
            "sample_size": 16,
            "block_out_channels": [96, 192],
            "layers_per_block": 1,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
            "cross_attention_dim": 192,
            "attention_head_dim": [3, 6],
            "use_linear_projection": True,
            "norm_num_groups": 32,
        }
    )
    text_encoder: dict[str, Any] = field(
        default_factory=lambda: {
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "hidden_act": "quick_gelu",
            "max_position_embeddings": 77,
            "eos_token_id": 49407,
            "bos_token_id": 49406,
            "pad_token_id": 49407,
        }
    )
    autoencoder: AutoencoderRecipe = field(default_factory=AutoencoderRecipe)
    joint: TrainingRecipe = field(default_factory=lambda: recipe_named("tiny_joint"))
    text: TextRecipe = field(default_factory=TextRecipe)
    adapter: TrainingRecipe = field(default_factory=lambda: recipe_named("tiny_second"))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for metadata and for the run's saved configuration."""
        return asdict(self)
