"""Projections of IP-Adapter against diffusers' own, through its converter of the makers' keys."""

from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from subject_diffusion_core.ip_attention import (
    FullFaceProjection,
    ImageProjection,
    PerceiverResampler,
)

SMALL_UNET = {
    "block_out_channels": (32, 32),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 40,
    "attention_head_dim": 8,
    "layers_per_block": 1,
}
KINDS = {
    "base": (lambda: ImageProjection(24, 40), (3, 24)),
    "plus": (lambda: PerceiverResampler(128, 4, 64, 2, 16, 24, 40), (3, 17, 24)),
    "full face": (lambda: FullFaceProjection(24, 40), (3, 257, 24)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_equal_diffusers(kind: str) -> None:
    make, shape = KINDS[kind]
    ours: nn.Module = make().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in ours.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    unet = UNet2DConditionModel(**SMALL_UNET)
    convert = unet._convert_ip_adapter_image_proj_to_diffusers
    theirs = convert(dict(ours.state_dict()), low_cpu_mem_usage=False)
    embeds = torch.randn(shape, generator=generator)
    with torch.no_grad():
        assert torch.allclose(ours(embeds), theirs(embeds), atol=1e-5, rtol=0)
