"""Files of Stable Diffusion 2 base's full geometry with random weights, written in seconds."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.clip_model
import comfy.clip_vision
import comfy.ldm.models.autoencoder
import comfy.ldm.modules.diffusionmodules.openaimodel
import comfy.ops
import comfy.utils
import factories
import numpy as np
import torch
from diffusers import UNet2DConditionModel
from host_models import Host
from open_clip.transformer import TextTransformer
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.full_geometry import SD15
from subject_diffusion_core.files.adapter import expected_shapes
from subject_diffusion_core.files.adapter_config import AdapterConfig, config_to_json

Shapes = Mapping[str, tuple[int, ...]]
SD2_UNET: dict[str, Any] = {
    **factories.SD2_LIKE_UNET,
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
}
SD2_VAE: dict[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
# The stored text model has 24 layers; diffusers and the adapter file know the 23 that are used.
SD2_TEXT: dict[str, Any] = {
    **factories.TINY_TEXT,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
SD15_TEXT: dict[str, Any] = {
    **factories.TINY_TEXT,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
BLOCK = 1_000_003  # random numbers that repeat; a prime, so that no two rows of a weight are equal


def write_random(path: Path, shapes: Shapes, metadata: Mapping[str, str] | None = None) -> None:
    """A .safetensors file in float16: weights of a size that keeps activations near 1, norms 1,
    biases and position ids 0, gates .5."""
    header: dict[str, Any] = {"__metadata__": dict(metadata or {})}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 2 * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    noise = np.random.default_rng(0).standard_normal(BLOCK).astype(np.float32)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            count = int(np.prod(shape, dtype=np.int64))
            block = (noise * _spread(name, shape) + _mean(name, shape)).astype(np.float16)
            for start in range(0, count, BLOCK):
                file.write(block[: count - start].tobytes())


def _spread(name: str, shape: tuple[int, ...]) -> float:
    return float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 else 0.0


def _mean(name: str, shape: tuple[int, ...]) -> float:
    if len(shape) == 0:
        return 0.5
    return 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0


def shapes_of(module: torch.nn.Module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {
        prefix + name: tuple(tensor.shape)
        for name, tensor in module.state_dict().items()
        if not name.endswith("position_ids")
    }


def checkpoint_shapes(host: Host) -> dict[str, tuple[int, ...]]:
    """Stable Diffusion 2 base as one file, under its authors' names."""
    unet_class = comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel
    operations = comfy.ops.disable_weight_init
    with torch.device("meta"):
        config = host.tiny_model.comfy_unet_config(UNet2DConditionModel(**SD2_UNET).config)
        unet = unet_class(**config, operations=operations)
        vae = comfy.ldm.models.autoencoder.AutoencoderKL(embed_dim=4, ddconfig=SD2_VAE)
        text = TextTransformer(width=1024, heads=16, layers=24, output_dim=1024)
    return {
        **shapes_of(unet, "model.diffusion_model."),
        **shapes_of(vae, "first_stage_model."),
        **shapes_of(text, "cond_stage_model.model."),
    }


def sd15_checkpoint_shapes() -> dict[str, tuple[int, ...]]:
    """Stable Diffusion 1.5 as one file, under its authors' names."""
    unet_class = comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel
    with torch.device("meta"):
        unet = unet_class(**SD15, operations=comfy.ops.disable_weight_init)
        vae = comfy.ldm.models.autoencoder.AutoencoderKL(embed_dim=4, ddconfig=SD2_VAE)
        text = CLIPTextModel(CLIPTextConfig(**SD15_TEXT))
    text_shapes = factories.text_encoder_state(text)
    return {
        **shapes_of(unet, "model.diffusion_model."),
        **shapes_of(vae, "first_stage_model."),
        **{f"cond_stage_model.transformer.{k}": tuple(t.shape) for k, t in text_shapes.items()},
    }


def vision_shapes() -> dict[str, tuple[int, ...]]:
    """CLIP ViT-H/14 as ComfyUI's Load CLIP Vision takes it."""
    file = Path(comfy.clip_vision.__file__).with_name("clip_vision_config_h.json")
    config = json.loads(file.read_text(encoding="utf-8"))
    with torch.device("meta"):
        model = comfy.clip_model.CLIPVisionModelProjection(
            config, torch.float16, torch.device("meta"), comfy.ops.disable_weight_init
        )
    return shapes_of(model)


def adapter_file() -> tuple[dict[str, tuple[int, ...]], AdapterConfig]:
    """An adapter with every part of the paper, at the paper's widths."""
    with torch.device("meta"):
        blocks = factories.adapter_blocks(UNet2DConditionModel(**SD2_UNET))
        text = CLIPTextModel(CLIPTextConfig(**SD2_TEXT))
    config = AdapterConfig(
        base_family="sd2",
        latent_channels=4,
        cross_attention_dim=1024,
        patch_dim=1280,
        image_embed_dim=1024,
        num_patches=256,
        num_subjects=2,
        grounding_hidden_dim=1024,
        grounding_out_dim=1024,
        projector_hidden_dim=1024,
        projector_out_dim=1024,
        adapter_blocks=blocks,
    )
    shapes = {
        name: tuple(size or SD2_UNET["block_out_channels"][0] for size in shape)
        for name, shape in expected_shapes(config).items()
    }
    text_shapes = factories.text_encoder_state(text)
    shapes |= {f"text_encoder.{name}": tuple(t.shape) for name, t in text_shapes.items()}
    return shapes, config


def write_full_size_models(host: Host, models: Path, names: Mapping[str, str]) -> int:
    """Write all three files where ComfyUI looks for them; returns their size in bytes.

    Args:
        models: ComfyUI's folder of models.
        names: folder -> file name.
    """
    shapes, config = adapter_file()
    metadata = {"subject_diffusion": config_to_json(config)}
    files = {
        "checkpoints": (checkpoint_shapes(host), None),
        "clip_vision": (vision_shapes(), None),
        "subject_diffusion": (shapes, metadata),
    }
    for folder, (contents, extra) in files.items():
        (models / folder).mkdir(parents=True, exist_ok=True)
        write_random(models / folder / names[folder], contents, extra)
    return sum((models / folder / name).stat().st_size for folder, name in names.items())
