"""The frozen networks of a run: VAE and image encoder, and what they give.

# Shapes: B batch, N subject slots, c latent channels, h x w latents, R resolution, S reference
# size.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder

from .base_model import Autoencoder
from .vision import VisionEncoder


@dataclass
class FrozenEncoders:
    """VAE and image encoder of a run; None where the shards hold what they would compute.

    They run in ``dtype``; what they give is float32.
    """

    vae: Autoencoder | None
    vision: VisionEncoder | None
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        for network in (self.vae, self.vision):
            if network is not None and self.dtype != torch.float32:
                move(network, self.dtype)

    @torch.no_grad()
    def complete(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add latents and reference features where the batch has pictures instead."""
        if "pixels" in tensors:
            assert self.vae is not None
            tensors["latents"] = encode_latents(self.vae, tensors.pop("pixels").to(self.dtype))
        if "references" in tensors:
            tensors |= self.encode_references(tensors.pop("references"), tensors["subject_valid"])
        return tensors

    def encode_references(self, references: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """patch_embeds (B, N, P, C) and image_embeds (B, N, E) of references (B, N, 3, S, S);
        zeros where no subject is ``valid`` (B, N)."""
        assert self.vision is not None
        shape = self.vision.shape
        patches = references.new_zeros(*valid.shape, shape.num_patches, shape.patch_dim)
        images = references.new_zeros(*valid.shape, shape.image_embed_dim)
        if bool(valid.any()):
            encoded = self.vision(references[valid].to(self.dtype))
            patches[valid], images[valid] = (output.float() for output in encoded)
        return {"patch_embeds": patches, "image_embeds": images}


def move(network: nn.Module, place: torch.device | torch.dtype) -> None:
    """To a device or a precision, in place; diffusers' own ``to`` is typed for nothing."""
    network.to(place)


def weights_mark(network: nn.Module) -> str:
    """A short hash of a network's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def encode_latents(vae: Autoencoder, pixels: Tensor) -> Tensor:
    """Scaled latents (B, c, h, w) of pixels (B, 3, R, R) in -1..1: the distribution's mode."""
    if isinstance(vae, BlockAutoencoder):
        block_latents: Tensor = vae.encode(pixels)
        return block_latents.float()
    latents: Tensor = vae.encode(pixels).latent_dist.mode() * vae.config["scaling_factor"]
    return latents.float()


@torch.no_grad()
def decode_latents(vae: Autoencoder, latents: Tensor) -> Tensor:
    """Pixels (B, 3, R, R), about -1..1, of scaled latents (B, c, h, w)."""
    if isinstance(vae, BlockAutoencoder):
        return vae.decode(latents).float()
    scaled: Tensor = latents / vae.config["scaling_factor"]
    pixels: Tensor = vae.decode(scaled.to(vae.dtype)).sample
    return pixels.float()


def to_pixels(pictures: np.ndarray) -> Tensor:
    """Pixels (B, 3, R, R) in -1..1 of pictures (B, R, R, 3) uint8."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def to_pictures(pixels: Tensor) -> np.ndarray:
    """Pictures (B, R, R, 3) uint8 of pixels (B, 3, R, R), about -1..1."""
    rounded = pixels.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return rounded.permute(0, 2, 3, 1).cpu().numpy()
