"""Where on its way from noise a base loses what a picture shows: real pictures with some noise,
which it takes away.

# Shapes: Q questions, H picture side (128), c latent channels, h x w latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from ...bases.encoders import encode_latents, to_pixels
from ...methods.objective import NUM_TIMESTEPS
from ..data.library import Library
from .drawing import Base
from .questions import Question, answered_from, real_picture
from .typical import typical_library


class LateScheduler(DDIMScheduler):
    """DDIM that begins at timestep ``since``, or the next of its steps below."""

    since = NUM_TIMESTEPS

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device = "cpu") -> None:
        """The usual steps, without those of more noise."""
        super().set_timesteps(num_inference_steps, device)
        self.timesteps = self.timesteps[self.timesteps <= self.since]


def typical_answers(
    library: Library, work: Path, questions: Sequence[Question], views: int, size: float
) -> np.ndarray:
    """Real composites (Q, H, H, 3) uint8 of typical pictures, ``views`` of a scene; the subject in
    the middle, its longer side ``size`` of the picture's."""
    usual = typical_library(library, work, views)
    return np.stack([real_picture(usual, answered_from(usual, q), size)[0] for q in questions])


@torch.no_grad()
def restored_latents(
    base: Base,
    questions: Sequence[Question],
    pictures: np.ndarray,
    since: int,
    steps: int,
    guidance: float,
) -> Tensor:
    """Latents (Q, c, h, w): ``pictures`` (Q, H, H, 3) uint8 with the noise of timestep ``since``,
    drawn on from there with the questions' prompts; with 0 their own.

    Raises:
        ValueError: no step of the sampler is at ``since`` or below.
    """
    sampler = base.sampler(steps, guidance)
    late = LateScheduler.from_config(sampler.scheduler.config)
    late.since = since
    late.set_timesteps(steps)
    if since and not len(late.timesteps):
        raise ValueError(
            f"--since: expected 0 or a timestep that {steps} sampling steps reach, got {since}. "
            "Take a larger one, or more --steps."
        )
    sampler.scheduler = late
    latents: Tensor = encode_latents(base.vae, to_pixels(pictures))
    if not since:
        return latents
    begin = late.timesteps[:1].expand(len(latents))
    noised = late.add_noise(latents, base.noise(questions), begin)
    return base.sample(sampler, questions, noised)
