"""Random but complete models at tiny size, made by the real classes: bases, adapters, and
diffusers' gated UNet.

Nothing that an adapter adds is zero here (gates, null features, mask kernel), so a test of parity
can fail.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from subject_diffusion_core import checkpoint
from subject_diffusion_core.checkpoint import Adapter, AdapterBlock, AdapterConfig
from subject_diffusion_core.files.adapter import new_adapters, new_grounding_net, new_projector
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder
from subject_diffusion_core.tiny.tiny_vision import TinyVision, VisionGeometry

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
}
GEOMETRY = VisionGeometry()
TINY_UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 16,
    "out_channels": 16,
    "layers_per_block": 1,
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": (1, 2),
    "cross_attention_dim": 48,
    "use_linear_projection": True,
}
SD2_LIKE_UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (64, 128, 128, 128),
    "attention_head_dim": (1, 2, 2, 2),
    "cross_attention_dim": 96,
    "use_linear_projection": True,
}
SD15_LIKE_UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (32, 64, 64, 64),
    "attention_head_dim": 8,
    "cross_attention_dim": 96,
}
TINY_TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}


@torch.no_grad()
def randomize(module: nn.Module, seed: int, scale: float = 1.0) -> nn.Module:
    """Give every parameter random values of a size that keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2 and "null" not in name:
            noise = noise * scale / parameter[0].numel() ** 0.5
        elif parameter.ndim == 1 and name.endswith("weight"):
            noise = 1.0 + 0.1 * noise
        elif parameter.ndim == 0:
            noise = torch.tensor(0.6)
        else:
            noise = 0.1 * noise
        parameter.copy_(noise)
    return module.eval().requires_grad_(False)


def make_unet(config: dict[str, Any], seed: int = 0) -> UNet2DConditionModel:
    """A random UNet without adapters."""
    return randomize(UNet2DConditionModel(**config), seed)


@functools.cache
def make_text_encoder(seed: int = 1) -> CLIPTextModel:
    """A random CLIP text model; one object per seed, not to be changed."""
    return randomize(CLIPTextModel(CLIPTextConfig(**TINY_TEXT)), seed)


def text_encoder_state(model: CLIPTextModel) -> dict[str, torch.Tensor]:
    """The weights under the names `text_model.*`, whatever transformers' version calls them."""
    return {
        name if name.startswith("text_model.") else f"text_model.{name}": tensor
        for name, tensor in model.state_dict().items()
        if not name.endswith("position_ids")
    }


def make_tiny_base(seed: int = 0) -> tiny_base.TinyBase:
    """A complete random tiny base."""
    config = {
        "unet": TINY_UNET,
        "vae": {"class": "BlockAutoencoder", "latent_channels": 16},
        "text_encoder": TINY_TEXT,
        "vision": {"class": "TinyVision"},
        "prediction_type": "v_prediction",
        "scheduler": SCHEDULER,
        "scaling_factor": 1.0,
        "image_size": 128,
        "provenance": {"recipe": "random"},
    }
    return tiny_base.TinyBase(
        config=config,
        unet=make_unet(TINY_UNET, seed).state_dict(),
        vae=randomize(BlockAutoencoder(16), seed + 1).state_dict(),
        text_encoder=text_encoder_state(make_text_encoder(seed + 2)),
        vision=randomize(TinyVision(), seed + 3).state_dict(),
        token_ids=torch.arange(49408),
    )


def adapter_blocks(unet: UNet2DConditionModel) -> tuple[AdapterBlock, ...]:
    """Every transformer block of a diffusers UNet."""
    return tuple(
        AdapterBlock(
            name=name.removesuffix(".attn1"),
            query_dim=module.to_q.in_features,
            num_heads=module.heads,
            head_dim=module.to_q.out_features // module.heads,
        )
        for name, module in unet.named_modules()
        if name.endswith("transformer_blocks.0.attn1")
    )


def make_adapter(unet: UNet2DConditionModel, seed: int = 10, **options: Any) -> Adapter:
    """A random adapter for the UNet and the tiny text encoder: all parts trained, non-zero."""
    width = unet.config.cross_attention_dim
    config = AdapterConfig(
        **{
            "base_family": "tiny",
            "latent_channels": unet.config.in_channels,
            "cross_attention_dim": width,
            "patch_dim": GEOMETRY.patch_dim,
            "image_embed_dim": GEOMETRY.image_embed_dim,
            "num_patches": GEOMETRY.num_patches,
            "num_subjects": 4,
            "grounding_hidden_dim": 40,
            "grounding_out_dim": 24,
            "projector_hidden_dim": 40,
            "projector_out_dim": width,
            "adapter_blocks": adapter_blocks(unet),
            "reference_size": GEOMETRY.image_size,
            "prediction_type": "v_prediction",
            **options,
        }
    )
    unet_part: dict[str, torch.Tensor] = {}
    for index, (name, module) in enumerate(new_adapters(config).items()):
        state = randomize(module, seed + index).state_dict()
        unet_part |= {f"{name}.fuser.{key}": tensor for key, tensor in state.items()}
    generator = torch.Generator().manual_seed(seed + 100)
    for name, weight in unet.state_dict().items():
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            part = "cross_attention_kv"
        elif name.startswith("conv_in."):
            part = "conv_in"
        else:
            continue
        if part not in config.trained_parts:
            continue
        changed = weight + 0.1 * torch.randn(weight.shape, generator=generator)
        if name == "conv_in.weight":
            mask_shape = (weight.shape[0], 1, *weight.shape[2:])
            kernel = 0.3 * torch.randn(mask_shape, generator=generator)
            changed = torch.cat((changed, kernel), dim=1)
        unet_part[name] = changed
    text = {}
    if "text_encoder" in config.trained_parts:
        text = text_encoder_state(make_text_encoder(seed + 200))
    return Adapter(
        config=config,
        unet=unet_part,
        text_encoder=text,
        grounding=randomize(new_grounding_net(config), seed + 300).state_dict(),
        mlp=randomize(new_projector(config), seed + 400).state_dict(),
    )


def save_tiny_files(folder: Path, **adapter_options: Any) -> tuple[Path, Path]:
    """Write a tiny base (not quantised) and an adapter for it; returns their paths."""
    base_path, adapter_path = folder / "tiny_base.safetensors", folder / "tiny_adapter.safetensors"
    tiny_base.save(base_path, make_tiny_base(), int8=False)
    checkpoint.save(adapter_path, make_adapter(make_unet(TINY_UNET), **adapter_options))
    return base_path, adapter_path


def training_unet(
    config: dict[str, Any], unet: UNet2DConditionModel, adapter: Adapter
) -> UNet2DConditionModel:
    """The training side: diffusers' gated UNet with a mask channel, holding base and adapter."""
    blocks = new_adapters(adapter.config)
    gated = UNet2DConditionModel(
        **{**config, "in_channels": config["in_channels"] + 1, "attention_type": "gated"}
    )
    gated.position_net = nn.Identity()
    for name, module in blocks.items():
        gated.get_submodule(name).fuser = _FuserWithPositions(module)
    base = {k: v for k, v in unet.state_dict().items() if not k.startswith("conv_in")}
    weights = {k.replace(".fuser.", ".fuser.layer."): v for k, v in adapter.unet.items()}
    result = gated.load_state_dict({**base, **weights}, strict=False)
    assert not result.unexpected_keys and not result.missing_keys, result
    return gated.eval().requires_grad_(False)


class _FuserWithPositions(nn.Module):
    """diffusers calls `fuser(hidden_states, objs)`; query positions come from outside."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.enabled = True
        self.query_positions: dict[int, torch.Tensor] = {}

    def forward(self, hidden_states: torch.Tensor, objs: torch.Tensor) -> torch.Tensor:
        positions = self.query_positions.get(hidden_states.shape[1])
        return self.layer(hidden_states, objs, query_positions=positions)
