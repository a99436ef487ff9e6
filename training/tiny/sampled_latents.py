"""Latents that the diffusion model made of training pictures, for the decoder to learn from.

# Shapes: K samples, C latent channels, h x w latents.
A picture's latents get as much noise as a sampling step begins with; from there the model samples
with its conditions and its guidance. What comes out shows the same things in the same places, with
the faults that a sampled picture has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..runs import atomic_path
from ..sampling import TinySampler
from .batches import BatchMaker
from .recipe import AutoencoderRecipe, DiffusionRecipe


@dataclass(frozen=True, kw_only=True)
class SampledLatents:
    """``latents`` (K, C, h, w) float16; ``indices`` (K,) the training pictures they began from."""

    latents: np.ndarray
    indices: np.ndarray


def every_condition_kept(recipe: DiffusionRecipe) -> DiffusionRecipe:
    """The stage's batches without dropped conditions or hidden labels."""
    return replace(
        recipe, drop_text=0.0, drop_image=0.0, drop_both=0.0, base_only=0.0, unknown_label=0.0
    )


def sample_latents(
    sampler: TinySampler, batches: BatchMaker, recipe: AutoencoderRecipe, path: Path
) -> SampledLatents:
    """The samples in ``path`` (npz), made there if it does not exist.

    Args:
        sampler: of the trained model. batches: see :func:`every_condition_kept`.
        recipe: ``num_sampled``; batch after batch begins at the next of ``first_sampling_steps``.
    """
    if not path.exists():
        latents, indices = [], []
        starts = recipe.first_sampling_steps
        num_batches = -(-recipe.num_sampled // batches.recipe.batch_size)
        for number in tqdm(range(num_batches), desc="sampled latents", unit=" batches"):
            torch.manual_seed(recipe.seed * 1_000_003 + number)
            batch = batches.draw(number).to(sampler.device)
            full = batch.conditioning.to(sampler.device, sampler.dtype)
            start = starts[number % len(starts)]
            made = sampler.denoise(batch.latents, sampler.adapter_branches(full), start)
            latents.append(made.cpu().to(torch.float16).numpy())
            indices.append(batch.indices)
        with atomic_path(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, latents=np.concatenate(latents), indices=np.concatenate(indices))
    with np.load(path) as arrays:
        return SampledLatents(latents=arrays["latents"], indices=arrays["indices"])
