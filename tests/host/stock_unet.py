"""A UNet in a file that ComfyUI's own loaders take for Stable Diffusion 2's: as few layers as they
allow, whole or quantised."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import factories
import pytest
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
SCALED_FP8 = "scaled fp8"


def load_stock_base(
    host: Host, folder: Path, quantised: str = "", config: dict[str, Any] = STOCK_UNET
) -> Base:
    """The UNet as "Load Diffusion Model" gives it; its CLIP is the tiny one.

    Args:
        quantised: "scaled fp8" for files of that name, else a format of single layers.
    """
    unet = factories.make_unet(config)
    path = folder / f"unet_{quantised}.safetensors"
    state, metadata = _comfy_state(host, unet), {}
    if quantised == SCALED_FP8:
        state = scaled_fp8(state)
    elif quantised:
        state, metadata = with_quantised_layers(state, quantised)
    safetensors.torch.save_file(state, path, metadata)
    model = comfy.sd.load_diffusion_model(str(path))
    return Base(config=config, unet=unet, model=model, clip=host.tiny_model.build_clip(host.tiny))


def layer_formats() -> set[str]:
    """Formats of single layers that this ComfyUI knows."""
    quant_ops = pytest.importorskip("comfy.quant_ops")
    return set(getattr(quant_ops, "QUANT_ALGOS", {}))


def with_quantised_layers(
    state: dict[str, torch.Tensor], name: str
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The linear layers of attention in a format of ComfyUI's own, and the file's metadata, which
    says so. ComfyUI knows a UNet by the width of its first attn2.to_k, which nvfp4 halves."""
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

    layout = QUANT_ALGOS[name]["comfy_tensor_layout"]
    stored, layers = {}, {}
    for key, tensor in state.items():
        if tensor.ndim != 2 or ".attn" not in key or key.endswith("attn2.to_k.weight"):
            stored[key] = tensor
            continue
        made = QuantizedTensor.from_float(tensor, layout)
        if hasattr(made, "state_dict"):
            parts = made.state_dict(key)
        else:
            scale = made._layout_params["scale"]
            parts = {key: made._qdata, f"{key}_scale": scale}
        stored |= {part: value.contiguous() for part, value in parts.items()}
        layers[key.removesuffix(".weight")] = {"format": name}
    said = {"format_version": "1.0", "layers": layers}
    return stored, {"_quantization_metadata": json.dumps(said)}


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
