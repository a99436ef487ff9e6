"""A UNet in a file that ComfyUI's own loaders take for Stable Diffusion 2's: as few layers as they
allow, whole or quantised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import factories
import safetensors.torch
import torch
from diffusers import UNet2DConditionModel
from host_models import Base, Host

# ComfyUI knows the family by these widths.
STOCK_UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (320,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "attention_head_dim": 5,
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
FP8 = torch.float8_e4m3fn


def load_stock_base(
    host: Host, folder: Path, quantised: bool = False, config: dict[str, Any] = STOCK_UNET
) -> Base:
    """The UNet as "Load Diffusion Model" gives it; its CLIP is the tiny one."""
    unet = factories.make_unet(config)
    path = folder / f"unet_{quantised}.safetensors"
    state = _comfy_state(host, unet)
    safetensors.torch.save_file(scaled_fp8(state) if quantised else state, path)
    model = comfy.sd.load_diffusion_model(str(path))
    return Base(config=config, unet=unet, model=model, clip=host.tiny_model.build_clip(host.tiny))


def _comfy_state(host: Host, unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    names = comfy.utils.unet_to_diffusers(host.tiny_model.comfy_unet_config(unet.config))
    return {names[name]: tensor.contiguous() for name, tensor in unet.state_dict().items()}


def scaled_fp8(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The file format "scaled fp8": every linear layer's weight as fp8 with one scale."""
    stored = {"scaled_fp8": torch.zeros(2, dtype=FP8)}
    for name, tensor in state.items():
        if tensor.ndim != 2:
            stored[name] = tensor
            continue
        scale = tensor.abs().max() / torch.finfo(FP8).max
        stored[name] = (tensor / scale).to(FP8)
        stored[name.removesuffix("weight") + "scale_weight"] = scale
    return stored
