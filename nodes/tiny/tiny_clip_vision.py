# Shapes: B pictures, P patch tokens, C their width, E width of the image embedding.
"""The tiny image encoder behind the interface of ComfyUI's ClipVisionModel."""

from __future__ import annotations

import comfy.clip_vision
import comfy.model_management
import torch
from torch.nn import functional as F

from ...subject_diffusion_core.tiny.tiny_base import TinyBase
from ...subject_diffusion_core.tiny.tiny_vision import TinyVision, VisionGeometry, normalise_pixels
from ..host.patchers import wrap_in_patcher


class TinyVisionModel(TinyVision):
    """Called as ComfyUI's own networks are; there is no earlier layer than the patch tokens."""

    def forward(  # type: ignore[override]
        self, pixel_values: torch.Tensor, intermediate_output: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        """(B, 3, S, S), normalised -> twice (B, 1 + P, C), a mean token first; (B, E); None."""
        output = super().forward(pixel_values)
        patches = output.patch_embeds
        states = torch.cat((patches.mean(dim=1, keepdim=True), patches), dim=1)
        return states, states, output.image_embeds, None


class TinyClipVision:
    """What nodes use of ComfyUI's ClipVisionModel, around another network."""

    def __init__(self, tiny_base: TinyBase) -> None:
        geometry = VisionGeometry.from_config(tiny_base.config["vision"])
        self.image_size = geometry.image_size
        self.dtype = torch.float32
        self.load_device = comfy.model_management.text_encoder_device()
        offload_device = comfy.model_management.text_encoder_offload_device()
        self.model = TinyVisionModel(geometry).eval().requires_grad_(False)
        self.model.load_state_dict(tiny_base.vision)
        self.model.to(offload_device)
        self.patcher = wrap_in_patcher(self.model, self.load_device, offload_device)

    def load_sd(self, sd: dict[str, torch.Tensor]) -> tuple[list[str], list[str]]:
        keys: tuple[list[str], list[str]] = self.model.load_state_dict(sd, strict=False)
        return keys

    def get_sd(self) -> dict[str, torch.Tensor]:
        return self.model.state_dict()

    def encode_image(self, image: torch.Tensor, crop: bool = True) -> comfy.clip_vision.Output:
        """(B, H, W, 3) in 0..1 -> (B, 1 + P, C), a mean token first, and (B, E)."""
        comfy.model_management.load_models_gpu([self.patcher], force_full_load=True)
        pixels = _resize(image[..., :3].movedim(-1, 1).float(), self.image_size, crop)
        last, penultimate, embeds, _ = self.model(normalise_pixels(pixels.to(self.load_device)))
        device = comfy.model_management.intermediate_device()
        outputs = comfy.clip_vision.Output()
        outputs["last_hidden_state"] = last.to(device)
        outputs["penultimate_hidden_states"] = penultimate.to(device)
        outputs["image_embeds"] = embeds.to(device)
        outputs["mm_projected"] = None
        return outputs


def _resize(pixels: torch.Tensor, size: int, crop: bool) -> torch.Tensor:
    """(B, 3, H, W) -> (B, 3, size, size); `crop` takes the middle square, as ComfyUI does."""
    height, width = pixels.shape[-2:]
    if crop and height != width:
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        pixels = pixels[..., top : top + side, left : left + side]
    if tuple(pixels.shape[-2:]) == (size, size):
        return pixels
    resized = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True)
    return resized.clamp(0.0, 1.0)
