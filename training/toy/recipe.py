"""The tiny model's recipe: every number of its training, in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from subject_diffusion_core.adapter_options import AdapterOptions, MaskKind
from subject_diffusion_core.tiny.tiny_vision import VisionGeometry


@dataclass(frozen=True, kw_only=True)
class AutoencoderRecipe:
    """Autoencoder of 8x8 pixel blocks, 128 px to 16x16 latents.

    The encoder is a fixed linear transform (``block_pca.py``), fitted to half of ``num_images``
    pictures; the decoder is trained on crops of all of them, at any time after it.
    """

    latent_channels: int = 24
    crop: int = 64
    batch_size: int = 16
    steps: int = 3200
    warmup_steps: int = 100
    learning_rate: float = 1e-3
    num_images: int = 6000
    latent_noise: float = 0.1
    perceptual_weight: float = 0.2
    color_weight: float = 4.0
    checkpoint_every: int = 200
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class DiffusionRecipe:
    """One stage of diffusion training: joint, or Subject-Diffusion on the frozen base.

    ``map_loss_kind``: balanced_l1, l1 or off.
    """

    batch_size: int = 32
    steps: int = 4000
    warmup_steps: int = 200
    learning_rate: float = 8e-4
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    inside_weight: float = 3.0
    map_loss_weight: float = 0.01
    map_loss_kind: str = "balanced_l1"
    drop_text: float = 0.05
    drop_image: float = 0.05
    drop_both: float = 0.05
    base_only: float = 0.10
    unknown_label: float = 0.10
    same_view: float = 0.6
    crowded_share: float = 0.2
    checkpoint_every: int = 250
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class TinyRecipe(AdapterOptions):
    """The whole recipe; ``unet``, ``text_encoder`` are diffusers' and transformers' arguments,
    ``adapter_heads`` the number of an adapter's heads by the width of its block.
    ``adapter_layer``, ``image_cls``: parts that the paper's table 3 takes away (e, g), besides
    those of the adapter's options.
    """

    num_subjects: int = 4
    grounding_hidden_dim: int = 512
    projector_hidden_dim: int = 384
    patch_positions: bool = True
    query_positions: bool = True
    token_positions: bool = True
    mask_kind: ClassVar[MaskKind] = "box"
    image_size: int = 128
    vision: VisionGeometry = field(default_factory=VisionGeometry)
    adapter_layer: bool = True
    image_cls: bool = True
    local_start: bool = True
    adapter_heads: dict[int, int] = field(default_factory=lambda: {96: 4, 192: 6})
    adapter_head_dim: int = 32
    initial_alpha_attn: float = 1.0
    initial_alpha_dense: float = 0.5
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
    joint: DiffusionRecipe = field(default_factory=DiffusionRecipe)
    adapter: DiffusionRecipe = field(
        default_factory=lambda: DiffusionRecipe(
            steps=1200, warmup_steps=60, learning_rate=6e-4, base_only=0.0, seed=2
        )
    )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for metadata and for the run's saved configuration."""
        return asdict(self)
