"""Stable Diffusion 1.5 and XL as ComfyUI configures them, for models of random or no weights."""

from __future__ import annotations

import importlib
from typing import Any

import torch

COMMON = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_checkpoint": False,
    "legacy": False,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
}
SD15 = {
    **COMMON,
    "num_classes": None,
    "adm_in_channels": None,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_linear_in_transformer": False,
    "num_heads": 8,
    "num_head_channels": -1,
}
SDXL = {
    **COMMON,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "channel_mult": [1, 2, 4],
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
    "num_heads": -1,
    "num_head_channels": 64,
}


def make_base(family: str, config: dict[str, Any], device: torch.device) -> Any:
    """ComfyUI's base model of a family, "SD15" or "SDXL", in float32; inside ComfyUI's process."""
    supported: Any = importlib.import_module("comfy.supported_models")
    model_config = getattr(supported, family)(dict(config))
    model_config.set_inference_dtype(torch.float32, None)
    return model_config.get_model({}, device=device)
