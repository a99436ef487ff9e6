"""A base with attention in the first block, too."""

from __future__ import annotations

from dataclasses import replace

import torch

from training.bases.base_model import BaseModel
from training.methods.subject_diffusion.model import build_unet

SEED = 75


def with_attention_above(base: BaseModel) -> BaseModel:
    """``base`` with attention in the first block, too, which does nothing at first: its last layer
    is zero."""
    arguments = {**base.unet_arguments, "down_block_types": ["CrossAttnDownBlock2D"] * 2}
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        unet = build_unet(arguments, base.latent_channels).state_dict()
    new = {
        name: tensor
        for name, tensor in unet.items()
        if name.startswith("down_blocks.0.attentions.") and ".fuser." not in name
    }
    zeros = {k: torch.zeros_like(v) for k, v in new.items() if ".proj_out." in k}
    return replace(base, unet_arguments=arguments, unet={**base.unet, **new, **zeros})
