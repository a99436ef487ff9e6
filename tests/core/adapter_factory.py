"""Small real adapters with random weights."""

from __future__ import annotations

import torch

from subject_diffusion_core.files.adapter import (
    Adapter,
    new_adapters,
    new_grounding_net,
    new_projector,
)
from subject_diffusion_core.files.adapter_config import AdapterBlock, AdapterConfig

BLOCK = "down_blocks.0.attentions.0.transformer_blocks.0"


def make_config(**changes) -> AdapterConfig:
    fields = dict(
        base_family="tiny",
        latent_channels=16,
        cross_attention_dim=12,
        patch_dim=10,
        image_embed_dim=6,
        num_patches=4,
        num_subjects=3,
        grounding_hidden_dim=14,
        grounding_out_dim=12,
        projector_hidden_dim=8,
        projector_out_dim=12,
        adapter_blocks=(AdapterBlock(name=BLOCK, query_dim=8, num_heads=2, head_dim=4),),
        patch_positions=True,
        query_positions=True,
        reference_size=128,
        prediction_type="v_prediction",
        provenance={"recipe": "test", "seed": 1},
    )
    return AdapterConfig(**{**fields, **changes})


def make_adapter(**changes) -> Adapter:
    config = make_config(**changes)
    torch.manual_seed(0)
    unet = {
        f"{name}.fuser.{key}": torch.randn_like(tensor)
        for name, module in new_adapters(config).items()
        for key, tensor in module.state_dict().items()
    }
    for block in config.adapter_blocks:
        for kind in "kv":
            unet[f"{block.name}.attn2.to_{kind}.weight"] = torch.randn(
                block.num_heads * block.head_dim, config.cross_attention_dim
            )
    unet["conv_in.weight"] = torch.randn(8, config.latent_channels + 1, 3, 3)
    unet["conv_in.bias"] = torch.randn(8)
    return Adapter(
        config=config,
        unet=unet,
        text_encoder={"text_model.final_layer_norm.weight": torch.randn(12)},
        grounding=dict(new_grounding_net(config).state_dict()),
        mlp=dict(new_projector(config).state_dict()),
    )
