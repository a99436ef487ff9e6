"""Image encoders of the references: patch tokens *before* the last norm, and the projected CLS.

# Shapes: B pictures, S side, P patch tokens, C patch width, E image embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.tiny.tiny_vision import TinyVision, VisionGeometry, normalise_pixels

from ..recipes.configuration import TrainingRecipe
from .base_model import BaseModel

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
VIT_H = {
    "image_size": 224, "patch_size": 14, "width": 1280, "layers": 32, "heads": 16,
    "mlp_ratio": 4.0, "output_dim": 1024,
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


class OpenClipVision(nn.Module):
    """open_clip's ViT. Its patch tokens are caught at the transformer's end: what the tower itself
    returns as tokens is before ``ln_post`` in older versions and after it in newer ones."""

    def __init__(self, tower: nn.Module, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.tower = tower
        grid = arguments["image_size"] // arguments["patch_size"]
        self.shape = VisionShape(
            num_patches=grid * grid,
            patch_dim=arguments["width"],
            image_embed_dim=arguments["output_dim"],
            reference_size=arguments["image_size"],
        )
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) in 0..1 -> patch tokens (B, P, C), image embeddings (B, E)."""
        caught: list[Tensor] = []
        hook = self.tower.transformer.register_forward_hook(
            lambda _module, _inputs, output: caught.append(output)
        )
        try:
            pooled = self.tower((pictures - self.mean) / self.std)
        finally:
            hook.remove()
        states = caught[0]
        if states.shape[0] != len(pictures):  # older versions put the tokens first
            states = states.transpose(0, 1)
        embeds = pooled[0] if isinstance(pooled, tuple) else pooled
        return states[:, 1:], embeds


class TransformersVision(nn.Module):
    """The same network in transformers' form, which ComfyUI's CLIP-vision files have."""

    def __init__(self, model: nn.Module, shape: VisionShape) -> None:
        super().__init__()
        self.model = model
        self.shape = shape
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) in 0..1 -> patch tokens (B, P, C), image embeddings (B, E)."""
        output = self.model((pictures - self.mean) / self.std)
        return output.last_hidden_state[:, 1:], output.image_embeds


class TinyVisionEncoder(nn.Module):
    """The small model's own encoder."""

    def __init__(self, network: TinyVision) -> None:
        super().__init__()
        self.network = network
        self.shape = tiny_vision_shape(network.geometry)

    @torch.no_grad()
    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) in 0..1 -> patch tokens (B, P, C), image embeddings (B, E)."""
        output = self.network(normalise_pixels(pictures))
        return output.patch_embeds, output.image_embeds


def tiny_vision_shape(geometry: VisionGeometry) -> VisionShape:
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
        return tiny_vision_shape(base.vision_geometry)
    sizes = RANDOM_VIT if recipe.random_base else VIT_H
    grid = sizes["image_size"] // sizes["patch_size"]
    return VisionShape(
        num_patches=int(grid * grid),
        patch_dim=int(sizes["width"]),
        image_embed_dim=int(sizes["output_dim"]),
        reference_size=int(sizes["image_size"]),
    )


def load_vision(path: Path | None, recipe: TrainingRecipe, base: BaseModel | None) -> nn.Module:
    """The image encoder of a recipe, frozen: the base's own, random, or ViT-H from ``path``."""
    if base is not None and base.vision is not None and base.vision_geometry is not None:
        network = TinyVision(base.vision_geometry)
        network.load_state_dict(base.vision)
        return TinyVisionEncoder(network).eval().requires_grad_(False)
    if recipe.random_base:
        with torch.random.fork_rng():
            torch.manual_seed(20_002)
            return OpenClipVision(_open_clip_tower(RANDOM_VIT), RANDOM_VIT).eval()
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"--vision: expected a file with CLIP ViT-H/14, got {path or 'nothing'}. "
            "Pass the image encoder's .safetensors, in open_clip's or transformers' form."
        )
    state = _read(path)
    if any(name.startswith("vision_model.") for name in state):
        return _transformers_vit_h(state).eval().requires_grad_(False)
    tower = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    if tower.get("conv1.weight", torch.empty(0)).shape[0] != VIT_H["width"]:
        raise CheckpointError(
            f"--vision: expected the image tower of CLIP ViT-H/14, got {path} with "
            f"{', '.join(sorted(state)[:3])}. Pass CLIP-ViT-H-14 (laion2B)."
        )
    network = _open_clip_tower(VIT_H)
    network.load_state_dict(tower)
    return OpenClipVision(network, VIT_H).eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def _open_clip_tower(arguments: dict[str, Any]) -> nn.Module:
    from open_clip.transformer import VisionTransformer

    return VisionTransformer(**arguments).requires_grad_(False)


def _transformers_vit_h(state: dict[str, Tensor]) -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=16,
        patch_size=14, image_size=224, projection_dim=1024, hidden_act="gelu",
    )  # fmt: skip
    model = CLIPVisionModelWithProjection(config)
    kept = {k: v for k, v in state.items() if not k.endswith("position_ids")}
    model.load_state_dict(kept)
    shape = VisionShape(num_patches=256, patch_dim=1280, image_embed_dim=1024, reference_size=224)
    return TransformersVision(model, shape)
