"""SDXL out of ComfyUI's own classes at tiny width: a UNet with several transformer blocks in one
place, and a CLIP of two text encoders; with their twins of diffusers and transformers."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import factories
import torch
from host_models import Base, Host
from transformers import CLIPTextConfig, CLIPTextModel

TEXT_L = {**factories.TINY_TEXT, "num_hidden_layers": 3}
TEXT_G = {**TEXT_L, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
HEAD_WIDTH = 64  # of every SDXL model
ADM = TEXT_G["hidden_size"] + 6 * 256
SDXL_LIKE_UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (32, 64, 128),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 3),
    "attention_head_dim": (1, 1, 2),
    "cross_attention_dim": TEXT_L["hidden_size"] + TEXT_G["hidden_size"],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": ADM,
}
DEPTHS = {
    "transformer_depth": [0, 0, 2, 2, 3, 3],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 3, 3, 3],
    "transformer_depth_middle": 3,
    "num_classes": "sequential",
    "adm_in_channels": ADM,
}


def make_text_model(config: dict[str, Any], seed: int) -> CLIPTextModel:
    return factories.randomize(CLIPTextModel(CLIPTextConfig(**config)), seed)


def make_sdxl_base(
    host: Host, dtype: torch.dtype = torch.float32, manual_cast_dtype: torch.dtype | None = None
) -> Base:
    """Its UNet stores `dtype` and computes in `manual_cast_dtype` if that is another."""
    unet = factories.make_unet(SDXL_LIKE_UNET)
    config = host.tiny_model.comfy_unet_config({**SDXL_LIKE_UNET, "attention_head_dim": 1})
    config |= {**DEPTHS, "num_heads": -1, "num_head_channels": HEAD_WIDTH}
    model_config = comfy.supported_models.SDXL(config)
    model_config.set_inference_dtype(dtype, manual_cast_dtype)
    model = model_config.get_model({}, device=torch.device("cpu"))
    names = comfy.utils.unet_to_diffusers(model_config.unet_config)
    state = {names[name]: tensor for name, tensor in unet.state_dict().items()}
    model.diffusion_model.load_state_dict(state)
    device = comfy.model_management.get_torch_device()
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)
    return Base(config=SDXL_LIKE_UNET, unet=unet, model=patcher, clip=make_sdxl_clip())


def make_sdxl_clip(text_l: dict[str, Any] = TEXT_L, text_g: dict[str, Any] = TEXT_G) -> Any:
    target = comfy.supported_models_base.ClipTarget(
        comfy.sdxl_clip.SDXLTokenizer, comfy.sdxl_clip.SDXLClipModel
    )
    options = {
        "dtype": torch.float32,
        "clip_l_model_config": text_l,
        "clip_g_model_config": text_g,
    }
    clip = comfy.sd.CLIP(target, model_options=options)
    for encoder, config, seed in (("clip_l", text_l, 1), ("clip_g", text_g, 2)):
        inner = getattr(clip.cond_stage_model, encoder)
        state = factories.text_encoder_state(make_text_model(config, seed))
        width = config["hidden_size"]
        # what checkpoints leave to chance must not matter
        projection = {"text_projection.weight": torch.randn(width, width)}
        inner.load_sd({**state, **projection})
    return clip
