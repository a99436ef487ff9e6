"""The text stage's objective with a variant's noise and weights of the loss.

# Shapes: B batch, c latent channels, h x w latents.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from training.dataset.batches import MicroBatch
from training.methods.objective import draw_noise, weighted_mse
from training.toy.text.lessons import Start
from training.toy.text.objective import TextObjective

from .feature_loss import FeatureLoss
from .variants import Variant
from .windows import CYCLE, windowed


class VariantObjective(TextObjective):
    """The text stage's, changed as ``variant`` says."""

    def __init__(self, variant: Variant, start: Start, *arguments: Any) -> None:
        super().__init__(start, *arguments)
        self.variant = variant
        self.draw_noise = self.draw_changed
        base = arguments[2]
        self.latents = torch.empty(0)
        self.features: FeatureLoss | None = None
        if variant.feature_weight:
            self.features = FeatureLoss(base, self.scheduler.alphas_cumprod)
        self.channel_weights = pixel_weights(base.load_vae(), variant.pixel_power)
        self.step_weights = min_snr_weights(self.scheduler.alphas_cumprod, variant.min_snr)

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """The loop's, in the variant's share of steps on windows."""
        step = batch.positions[0] // self.recipe.global_batch_size
        tensors = self.encoders.complete(batch.to(self.device))
        if step % CYCLE < self.variant.windows:
            tensors = windowed(tensors, batch.positions)
        batch, self.latents = replace(batch, tensors=tensors), tensors["latents"]
        return super().__call__(batch)

    def draw_changed(
        self, shape: torch.Size, positions: list[int], seed: int
    ) -> tuple[Tensor, Tensor]:
        """The loop's noise and timesteps, changed as the variant says."""
        return draw_changed(self.variant, shape, positions, seed)

    def error(self, prediction: Tensor, target: Tensor, mask: Tensor, steps: Tensor) -> Tensor:
        """Squared error with the variant's weights, each of mean one."""
        weights = self.channel_weights[:, None, None] * self.step_weights[steps, None, None, None]
        root = weights.sqrt()
        mse = weighted_mse(root * prediction, root * target, mask, self.recipe.inside_weight)
        if self.features is not None:
            distance = self.features(self.latents, prediction, target, steps)
            mse = mse + self.variant.feature_weight * distance
        return mse


def draw_changed(
    variant: Variant, shape: torch.Size, positions: list[int], seed: int
) -> tuple[Tensor, Tensor]:
    """Noise (B, c, h, w) and timesteps (B,) of the common loop, changed as the variant says."""
    noise, steps = draw_noise(shape, positions, seed)
    if variant.noise_share:
        generator = torch.Generator().manual_seed(positions[0] + seed)
        offset = torch.randn(*shape[:2], 1, 1, generator=generator)
        noise = (noise + variant.noise_share * offset) / (1 + variant.noise_share**2) ** 0.5
    return noise, steps


def pixel_weights(vae: Any, power: float) -> Tensor:
    """(c,) of mean one: how much of a picture a channel moves, to ``power``. At 1 the loss is that
    of the pixels which the autoencoder's linear half makes; at 0 all channels count alike."""
    energy = vae.synthesis.weight.detach().flatten(1).square().sum(0)
    return normed(energy**power)


def min_snr_weights(alphas: Tensor, gamma: float) -> Tensor:
    """(T,) of mean one: min(SNR, gamma) / (SNR + 1), the weights of Hang et al. for v-prediction;
    all one where gamma is 0."""
    ratio = alphas / (1 - alphas)
    return normed(ratio.clamp(max=gamma) / (ratio + 1)) if gamma else torch.ones_like(ratio)


def normed(weights: Tensor) -> Tensor:
    """Divided by their mean."""
    return weights / weights.mean()
