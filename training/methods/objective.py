"""The loss of a step: MSE + lambda * cross-attention map loss (Subject-Diffusion eq. 3).

# Shapes: B micro-batch, N subject slots, c latent channels, h x w latents, K = 2N watched tokens.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from subject_diffusion_core.losses import cross_attention_map_loss

from ..bases.base_model import SCHEDULE, BaseModel
from ..bases.encoders import FrozenEncoders
from ..dataset.batches import MicroBatch
from ..networks.fused_attention import WatchedTokens
from ..recipes.configuration import TrainingRecipe
from .conditioning import conditioning_of, watched_positions

NUM_TIMESTEPS = 1000


def noise_scheduler(prediction_type: str) -> DDPMScheduler:
    """Stable Diffusion's noise schedule."""
    scheduler: DDPMScheduler = DDPMScheduler(
        num_train_timesteps=NUM_TIMESTEPS, prediction_type=prediction_type, **SCHEDULE
    )
    return scheduler


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


def shifted(timesteps: Tensor, shift: float) -> Tensor:
    """Timesteps (B,) with t/T -> s t / (1 + (s - 1) t) for s = ``shift``; 1 leaves them.

    >>> shifted(torch.tensor([0, 500, 999]), 3.0).tolist()
    [1, 750, 999]
    """
    share = (timesteps.double() + 0.5) / NUM_TIMESTEPS
    return (shift * share / (1 + (shift - 1) * share) * NUM_TIMESTEPS).long()


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
        self.model, self.watched, self.recipe = model, watched, recipe
        self.encoders, self.device, self.draw_noise = encoders, device, draw_noise
        self.scheduler = noise_scheduler(base.prediction_type)

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Mean squared error and map loss, each a mean over this batch's pictures."""
        tensors = self.encoders.complete(batch.to(self.device))
        latents = tensors["latents"]
        noise, steps = self.draw_noise(latents.shape, batch.positions, self.recipe.seed)
        steps = shifted(steps, self.recipe.timestep_shift)
        noise, steps = noise.to(latents), steps.to(latents.device)
        diffused = cast(torch.IntTensor, steps)  # so diffusers calls them; they are long
        noisy = self.scheduler.add_noise(latents, noise, diffused)
        if self.scheduler.config["prediction_type"] == "v_prediction":
            target = self.scheduler.get_velocity(latents, noise, diffused)
        else:
            target = noise
        conditioning = conditioning_of(tensors)
        height, width = latents.shape[-2:]
        positions = None if self.recipe.map_loss == "off" else watched_positions(conditioning)
        most = height * width // self.recipe.map_loss_below**2
        with self.watched.recording(positions, most) as columns:
            prediction = self.model(noisy, steps, conditioning)
        mse = self.error(prediction, target, conditioning.location_mask, steps)
        if positions is None:
            return mse, mse.new_zeros(())
        return mse, self.map_loss(columns, tensors)

    def error(self, prediction: Tensor, target: Tensor, mask: Tensor, steps: Tensor) -> Tensor:
        """Squared error of a batch; ``mask`` of the boxes, ``steps`` (B,) the timesteps."""
        return weighted_mse(prediction, target, mask, self.recipe.inside_weight)

    def map_loss(self, columns: list[Tensor], tensors: dict[str, Tensor]) -> Tensor:
        """Mean over the label's and the placeholder's tokens."""
        slots = tensors["map_valid"].shape[1]
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


def weighted_mse(prediction: Tensor, target: Tensor, mask: Tensor, inside_weight: float) -> Tensor:
    """Mean squared error, ``inside_weight`` times heavier inside the boxes.

    ``prediction``, ``target`` (B, c, h, w); ``mask`` (B, 1, h, w) in 0..1.
    """
    weight = 1 + (inside_weight - 1) * mask
    return (weight * (prediction.float() - target.float()).square()).mean() / weight.mean()
