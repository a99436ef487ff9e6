"""Image encoders of the references: patch tokens *before* the last norm, and the projected CLS.

# Shapes: B pictures, S side, P patch tokens, C patch width, E image embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.tiny.tiny_vision import TinyVision, VisionGeometry, normalise_pixels

from ..recipes.configuration import TrainingRecipe
from .base_model import BaseModel, frozen, read_state

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# open_clip's arguments of a VisionTransformer.
VIT_H = {
    "image_size": 224, "patch_size": 14, "width": 1280, "layers": 32, "heads": 16,
    "mlp_ratio": 4.0, "output_dim": 1024,
}  # fmt: skip
TRANSFORMERS_VIT_H: dict[str, Any] = {
    "image_size": 224, "patch_size": 14, "hidden_size": 1280, "num_hidden_layers": 32,
    "num_attention_heads": 16, "intermediate_size": 5120, "projection_dim": 1024,
    "hidden_act": "gelu",
}  # fmt: skip
RANDOM_VIT = {
    "image_size": 224, "patch_size": 56, "width": 32, "layers": 2, "heads": 2,
    "mlp_ratio": 2.0, "output_dim": 16,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VisionShape:
    """Sizes of an image encoder: P, C, E, and the side S of its pictures."""

    num_patches: int
    patch_dim: int
    image_embed_dim: int
    reference_size: int


class VisionEncoder(nn.Module):
    """What all encoders give: (B, 3, S, S) in 0..1 -> patch tokens (B, P, C), embeddings (B, E)."""

    def __init__(self, shape: VisionShape) -> None:
        super().__init__()
        self.shape = shape


class OpenClipVision(VisionEncoder):
    """open_clip's ViT. Its patch tokens are caught at the transformer's end: what the tower itself
    returns as tokens is before ``ln_post`` in older versions and after it in newer ones."""

    def __init__(self, tower: VisionTransformer, arguments: Mapping[str, float]) -> None:
        super().__init__(clip_shape(arguments))
        self.tower = tower

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        caught: list[Tensor] = []
        hook = self.tower.transformer.register_forward_hook(
            lambda _module, _inputs, output: caught.append(output)
        )
        try:
            pooled = self.tower(clip_pixels(pictures))
        finally:
            hook.remove()
        states = caught[0]
        if states.shape[0] != len(pictures):  # older versions put the tokens first
            states = states.transpose(0, 1)
        embeds = pooled[0] if isinstance(pooled, tuple) else pooled
        return states[:, 1:], embeds


class TransformersVision(VisionEncoder):
    """The same network in transformers' form, which ComfyUI's CLIP-vision files have."""

    def __init__(self, model: CLIPVisionModelWithProjection) -> None:
        super().__init__(clip_shape(VIT_H))
        self.model = model

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model(clip_pixels(pictures))
        return output.last_hidden_state[:, 1:], output.image_embeds


class TinyVisionEncoder(VisionEncoder):
    """The small model's own encoder."""

    def __init__(self, network: TinyVision) -> None:
        super().__init__(tiny_shape(network.geometry))
        self.network = network

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        output = self.network(normalise_pixels(pictures))
        return output.patch_embeds, output.image_embeds


def clip_pixels(pictures: Tensor) -> Tensor:
    """(B, 3, S, S) in 0..1, normalised as CLIP was trained."""
    mean, std = (pictures.new_tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return (pictures - mean) / std


def clip_shape(sizes: Mapping[str, float]) -> VisionShape:
    """Sizes of a ViT, from open_clip's arguments."""
    return VisionShape(
        num_patches=int(sizes["image_size"] // sizes["patch_size"]) ** 2,
        patch_dim=int(sizes["width"]),
        image_embed_dim=int(sizes["output_dim"]),
        reference_size=int(sizes["image_size"]),
    )


def tiny_shape(geometry: VisionGeometry) -> VisionShape:
    """Sizes of the small model's own encoder."""
    return VisionShape(
        num_patches=geometry.num_patches,
        patch_dim=geometry.patch_dim,
        image_embed_dim=geometry.image_embed_dim,
        reference_size=geometry.image_size,
    )


def vision_shape(recipe: TrainingRecipe, base: BaseModel) -> VisionShape:
    """Sizes of the recipe's encoder, without building it."""
    if base.vision_geometry is not None:
        return tiny_shape(base.vision_geometry)
    return clip_shape(RANDOM_VIT if recipe.random_base else VIT_H)


def load_vision(path: Path | None, recipe: TrainingRecipe, base: BaseModel | None) -> VisionEncoder:
    """The image encoder of a recipe, frozen: the base's own, random, or ViT-H from ``path``."""
    if base is not None and base.vision is not None and base.vision_geometry is not None:
        encoder = TinyVisionEncoder(TinyVision(base.vision_geometry))
        encoder.network.load_state_dict(base.vision)
        return frozen(encoder)
    if recipe.random_base:
        with torch.random.fork_rng():
            torch.manual_seed(20_002)
            return open_clip_vision(RANDOM_VIT)
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"--vision: expected a file with CLIP ViT-H/14, got {path or 'nothing'}. "
            "Pass the image encoder's .safetensors, in open_clip's or transformers' form."
        )
    state = read_state(path)
    if any(name.startswith("vision_model.") for name in state):
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(**TRANSFORMERS_VIT_H))
        model.load_state_dict({k: v for k, v in state.items() if not k.endswith("position_ids")})
        return frozen(TransformersVision(model))
    tower = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    if tower.get("conv1.weight", torch.empty(0)).shape[0] != VIT_H["width"]:
        raise CheckpointError(
            f"--vision: expected the image tower of CLIP ViT-H/14, got {path} with "
            f"{', '.join(sorted(state)[:3])}. Pass CLIP-ViT-H-14 (laion2B)."
        )
    vit = open_clip_vision(VIT_H)
    vit.tower.load_state_dict(tower)
    return vit


def open_clip_vision(arguments: Mapping[str, float]) -> OpenClipVision:
    """A frozen ViT with random weights."""
    return frozen(OpenClipVision(VisionTransformer(**arguments), arguments))
