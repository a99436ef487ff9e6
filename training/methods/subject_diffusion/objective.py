"""The loss of a step: MSE(noise) + lambda * cross-attention map loss (Subject-Diffusion eq. 3).

# Shapes: B micro-batch, N subject slots, c latent channels, h x w latents, K = 2N watched tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from subject_diffusion_core.losses import cross_attention_map_loss
from subject_diffusion_core.tiny.block_autoencoder import BlockAutoencoder

from ...bases.base_model import SCHEDULE, BaseModel
from ...dataset.batches import MicroBatch
from ...networks.fused_attention import WatchedTokens
from ...recipes.configuration import TrainingRecipe
from .model import Conditioning

NUM_TIMESTEPS = 1000
_CONDITIONS = (
    "token_ids", "placeholder_positions", "label_positions", "text_valid", "subject_valid",
    "subject_boxes_xyxy", "patch_embeds", "image_embeds", "location_mask",
)  # fmt: skip


def noise_scheduler(prediction_type: str) -> DDPMScheduler:
    """Stable Diffusion's noise schedule."""
    return DDPMScheduler(
        num_train_timesteps=NUM_TIMESTEPS, prediction_type=prediction_type, **SCHEDULE
    )


def sample_seed(*numbers: int) -> int:
    """A 63-bit seed from whole numbers."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]
    return int(state >> np.uint64(1))


def draw_noise(shape: torch.Size, positions: list[int], seed: int) -> tuple[Tensor, Tensor]:
    """Noise (B, c, h, w) and timesteps (B,): a function of seed and each sample's position."""
    noise, timesteps = [], []
    for position in positions:
        generator = torch.Generator().manual_seed(sample_seed(seed, 4, position))
        noise.append(torch.randn(shape[1:], generator=generator))
        timesteps.append(torch.randint(0, NUM_TIMESTEPS, (), generator=generator))
    return torch.stack(noise), torch.stack(timesteps)


@dataclass
class FrozenEncoders:
    """VAE and image encoder of a run; None where the shards hold what they would compute.

    They run in ``dtype``; what they give is float32.
    """

    vae: nn.Module | None
    vision: nn.Module | None
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        for network in (self.vae, self.vision):
            if network is not None and self.dtype != torch.float32:
                network.to(self.dtype)

    @torch.no_grad()
    def complete(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add latents and reference features where the batch has pictures instead."""
        if "pixels" in tensors:
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


@torch.no_grad()
def encode_latents(vae: Any, pixels: Tensor) -> Tensor:
    """Scaled latents (B, c, h, w) of pixels (B, 3, R, R) in -1..1: the distribution's mode."""
    if isinstance(vae, BlockAutoencoder):
        return vae.encode(pixels).float()
    latents = vae.encode(pixels).latent_dist.mode()
    return (latents * vae.config["scaling_factor"]).float()


@torch.no_grad()
def decode_latents(vae: Any, latents: Tensor) -> Tensor:
    """Pixels (B, 3, R, R), about -1..1, of scaled latents (B, c, h, w)."""
    if isinstance(vae, BlockAutoencoder):
        return vae.decode(latents).float()
    scaled = latents / vae.config["scaling_factor"]
    return vae.decode(scaled.to(vae.dtype)).sample.float()


class Objective:
    """Computes the loss of micro-batches with the (wrapped) model."""

    def __init__(
        self,
        model: nn.Module,
        watched: WatchedTokens,
        base: BaseModel,
        recipe: TrainingRecipe,
        encoders: FrozenEncoders,
        device: torch.device,
    ) -> None:
        self.model = model
        self.watched = watched
        self.recipe = recipe
        self.encoders = encoders
        self.device = device
        self.scheduler = noise_scheduler(base.prediction_type)

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Mean squared error, and the map loss as a mean over this batch's valid subjects."""
        tensors = self.encoders.complete(batch.to(self.device))
        latents = tensors["latents"]
        noise, steps = draw_noise(latents.shape, batch.positions, self.recipe.seed)
        noise, steps = noise.to(latents), steps.to(latents.device)
        noisy = self.scheduler.add_noise(latents, noise, steps)
        if self.scheduler.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(latents, noise, steps)
        else:
            target = noise
        conditioning = conditioning_of(tensors)
        height, width = latents.shape[-2:]
        positions = None if self.recipe.map_loss == "off" else watched_positions(conditioning)
        with self.watched.recording(positions, height * width // 4) as columns:
            prediction = self.model(noisy, steps, conditioning)
        mse = (prediction.float() - target.float()).square().mean()
        if positions is None:
            return mse, mse.new_zeros(())
        return mse, self.map_loss(columns, tensors)

    def map_loss(self, columns: list[Tensor], tensors: dict[str, Tensor]) -> Tensor:
        """Mean over the label's and the placeholder's tokens."""
        slots = self.recipe.num_subjects
        losses = [
            cross_attention_map_loss(
                [layer[..., half] for layer in columns],
                tensors["subject_segmaps"],
                tensors["map_valid"],
                kind=self.recipe.map_loss,  # type: ignore[arg-type]
            )
            for half in (slice(None, slots), slice(slots, None))
        ]
        return torch.stack(losses).mean()


def conditioning_of(tensors: dict[str, Tensor]) -> Conditioning:
    """What the model is told, from a batch's tensors."""
    mask = tensors["location_mask"]
    return Conditioning(
        adapter_scale=mask.new_ones(len(mask), 1, 1),
        **{name: tensors[name] for name in _CONDITIONS},
    )


def watched_positions(conditioning: Conditioning) -> Tensor:
    """Text positions the map loss looks at: labels, then placeholders; (B, 2N), empty = 0."""
    positions = [conditioning.label_positions, conditioning.placeholder_positions]
    return torch.cat(positions, dim=1).clamp(min=0)
