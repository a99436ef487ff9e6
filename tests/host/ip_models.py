"""Random files of IP-Adapter and MS-Diffusion under their makers' keys, image encoders on both
sides, and diffusers' own IP-Adapter."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import comfy.clip_vision
import torch
from diffusers import UNet2DConditionModel
from diffusers.image_processor import IPAdapterMaskProcessor
from factories import randomize
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from subject_diffusion_core.ip_attention import (
    FullFaceProjection,
    GroundingResampler,
    ImageProjection,
    PerceiverResampler,
)

VISION = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "num_channels": 3,
    "projection_dim": 24,
    "hidden_act": "quick_gelu",
}
WIDTH, POOLED, LABEL = VISION["hidden_size"], VISION["projection_dim"], 48
Tensors = dict[str, dict[str, torch.Tensor]]


class Vision:
    """One random image encoder as transformers' and as ComfyUI's, in float32."""

    def __init__(self, folder: Path, **changes: int) -> None:
        config = {**VISION, **changes}
        self.theirs = randomize(CLIPVisionModelWithProjection(CLIPVisionConfig(**config)), 5)
        path = folder / "vision.json"
        path.write_text(json.dumps({**config, "model_type": "clip_vision_model"}))
        self.ours = comfy.clip_vision.ClipVisionModel(str(path))
        self.ours.model.float()
        missing, unexpected = self.ours.load_sd(self.theirs.state_dict())
        assert not missing, (missing, unexpected)

    def pixels(self, picture: torch.Tensor) -> torch.Tensor:
        """(1, S, S, 3) in 0..1 -> (1, 3, 32, 32) as every CLIP gets it."""
        return comfy.clip_vision.clip_preprocess(picture, size=VISION["image_size"])

    def embeds(self, kind: str, pixels: torch.Tensor) -> torch.Tensor:
        output = self.theirs(pixels, output_hidden_states=True)
        return output.image_embeds if kind == "base" else output.hidden_states[-2]

    def no_embeds(self, kind: str) -> torch.Tensor:
        """As diffusers makes them for the negative branch."""
        pixels = torch.zeros(1, 3, VISION["image_size"], VISION["image_size"])
        return torch.zeros(1, POOLED) if kind == "base" else self.embeds(kind, pixels)


def new_projection(kind: str, context_dim: int) -> nn.Module:
    made: dict[str, Any] = {
        "base": lambda: ImageProjection(POOLED, context_dim),
        "plus": lambda: PerceiverResampler(128, 4, 64, 2, 16, WIDTH, context_dim),
        "full face": lambda: FullFaceProjection(WIDTH, context_dim),
        "grounded": lambda: GroundingResampler(128, 2, 64, 2, 16, WIDTH, context_dim, LABEL),
    }
    return made[kind]()


def make_file(kind: str, unet: UNet2DConditionModel, seed: int = 20) -> Tensors:
    """The content of a file for diffusers' UNet."""
    context_dim = unet.config.cross_attention_dim
    layers = {}
    generator = torch.Generator().manual_seed(seed)
    for number, name in enumerate(unet.attn_processors):
        if "attn2" in name:
            attention = unet.get_submodule(name.removesuffix(".processor"))
            shape = (attention.to_k.out_features, context_dim)
            for letter in "kv":
                weight = torch.randn(shape, generator=generator) / context_dim**0.5
                layers[f"{number}.to_{letter}_ip.weight"] = weight
    projection = randomize(new_projection(kind, context_dim), seed + 1)
    file: Tensors = {"image_proj": dict(projection.state_dict())}
    if kind == "grounded":
        file |= {"ms_adapter": layers, "dummy_image_tokens": torch.randn(1, 4, context_dim)}
    else:
        file["ip_adapter"] = layers
    return file


def flat(file: Tensors) -> dict[str, torch.Tensor]:
    flattened = {}
    for name, content in file.items():
        if isinstance(content, torch.Tensor):
            flattened[name] = content
        else:
            flattened |= {f"{name}.{key}": tensor for key, tensor in content.items()}
    return {name: tensor.clone().contiguous() for name, tensor in flattened.items()}


def write_file(path: Path, file: Tensors) -> Path:
    """Pickled as .bin, else as .safetensors."""
    if path.suffix == ".bin":
        torch.save(file, path)
    else:
        save_file(flat(file), path)
    return path


def diffusers_prediction(
    unet: UNet2DConditionModel,
    file: Tensors,
    x: torch.Tensor,
    timestep: int,
    contexts: torch.Tensor,
    embeds: torch.Tensor,
    masks: Sequence[torch.Tensor] | None,
    scales: Sequence[float],
    conditions: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """diffusers' UNet with the file loaded by diffusers' own loader.

    Args:
        contexts: (B, L, C) one text a sample.
        embeds: (B, N, ...) of the encoder.
        masks: N of (H, W); None = everywhere, as one picture of several views.
        conditions: what else the UNet wants.
    """
    copy = UNet2DConditionModel(**unet.config)
    copy.load_state_dict(unet.state_dict())
    copy._load_ip_adapter_weights([file], low_cpu_mem_usage=False)
    options = {}
    if masks is not None:
        height, width = masks[0].shape
        prepared = IPAdapterMaskProcessor().preprocess(torch.stack(list(masks))[:, None])
        options["ip_adapter_masks"] = [prepared.reshape(1, len(masks), height, width)]
    for processor in copy.attn_processors.values():
        if hasattr(processor, "to_k_ip"):
            processor.scale = [list(scales) if masks is not None else scales[0]]
    return copy.eval()(
        x,
        timestep,
        encoder_hidden_states=contexts,
        added_cond_kwargs={**(conditions or {}), "image_embeds": [embeds]},
        cross_attention_kwargs=options,
    ).sample
