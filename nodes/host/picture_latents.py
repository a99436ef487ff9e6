# Shapes: H, W size of a picture in pixels, C channels, h, w size of its latent.
"""Pictures to latents through the VAE that belongs to a model."""

from __future__ import annotations

from typing import Any

import torch

from .comfy_types import Model


def checked_vae(vae: Any) -> Any:
    if vae is None:
        raise ValueError(
            "vae: expected the VAE of the model, got nothing. The checkpoint has none: connect a "
            "Load VAE node."
        )
    return vae


def latent_channels(model: Model) -> int:
    channels: int = model.get_model_object("latent_format").latent_channels
    return channels


def encode_picture(vae: Any, image: torch.Tensor, channels: int) -> torch.Tensor:
    """(H, W, 3) in 0..1 -> (1, C, h, w), as LATENT links have it.

    Args:
        channels: of the model's latents.
    """
    latent: torch.Tensor = vae.encode(image[None])
    require_latent(latent, channels)
    return latent


def require_latent(latent: torch.Tensor, channels: int) -> None:
    """One sentence unless a VAE's latent has the channels of the model's."""
    if latent.ndim != 4 or latent.shape[1] != channels:
        raise ValueError(
            f"vae: expected one that gives latents of {channels} channels for this model, got "
            f"latents of shape {tuple(latent.shape)}. Connect the VAE that belongs to the model."
        )
