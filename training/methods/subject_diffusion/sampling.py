"""Sampling with a model in training: DDIM with three-branch guidance, or two branches of the base.

# Shapes: B batch, N subject slots, c latent channels, h x w latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from subject_diffusion_core.guidance import classifier_free_guidance, three_branch_guidance

from ...bases.base_model import SCHEDULE
from ..conditioning import Conditioning
from .model import PreparedConditioning, SubjectDiffusionModel


@dataclass(frozen=True, kw_only=True)
class SamplingRule:
    """DDIM steps and the guidance scales s_t and s_i.

    ``stacked``: all branches in one call of the UNet, which is faster and takes more memory.
    """

    steps: int = 20
    text_guidance_scale: float = 4.0
    image_guidance_scale: float = 5.0
    stacked: bool = True


def three_branches(full: Conditioning, empty_ids: Tensor) -> list[Conditioning]:
    """With all, without text, without text and subjects; ``empty_ids`` (L,) of the empty prompt."""
    nothing = torch.zeros_like(full.text_valid)
    empty = empty_ids.to(full.token_ids.device).expand_as(full.token_ids)
    image = replace(full, token_ids=empty, text_valid=nothing)
    mask = torch.zeros_like(full.location_mask)
    return [full, image, replace(image, subject_valid=nothing, location_mask=mask)]


def two_branches(full: Conditioning, plain_ids: Tensor, empty_ids: Tensor) -> list[Conditioning]:
    """The base model alone: its prompt ``plain_ids`` (B, L), and the empty one (L,)."""
    base = three_branches(full, empty_ids)[-1]
    base = replace(base, adapter_scale=torch.zeros_like(base.adapter_scale))
    return [replace(base, token_ids=plain_ids.to(base.token_ids.device)), base]


def stack(branches: Sequence[Conditioning]) -> Conditioning:
    """All branches as one batch."""
    stacked: dict[str, Any] = {}
    for field in fields(Conditioning):
        values = [getattr(branch, field.name) for branch in branches]
        stacked[field.name] = None if values[0] is None else torch.cat(values)
    return Conditioning(**stacked)


class Sampler:
    """Samples latents with a model as it is."""

    def __init__(
        self, model: SubjectDiffusionModel, prediction_type: str, rule: SamplingRule
    ) -> None:
        self.model, self.rule = model, rule
        self.dtype = next(model.parameters()).dtype
        self.scheduler = DDIMScheduler(
            prediction_type=prediction_type,
            clip_sample=False,
            set_alpha_to_one=False,
            timestep_spacing="trailing",
            **SCHEDULE,
        )

    @torch.no_grad()
    def __call__(self, branches: Sequence[Conditioning], latents: Tensor) -> Tensor:
        """Latents (B, c, h, w) from noise; three branches, or two of the base alone."""
        together = [stack(branches)] if self.rule.stacked else branches
        prepared = [self.prepare(branch) for branch in together]
        repeats = len(branches) if self.rule.stacked else 1
        self.scheduler.set_timesteps(self.rule.steps)
        for number, timestep in enumerate(self.scheduler.timesteps):
            repeated = latents.repeat(repeats, 1, 1, 1).to(self.dtype)
            outputs = [
                self.predict(repeated, timestep.to(latents.device), branch, number, index)
                for index, branch in enumerate(prepared)
            ]
            parts = torch.cat(outputs).chunk(len(branches))
            latents = self.scheduler.step(self.guided(parts), timestep, latents).prev_sample
        return latents

    def prepare(self, branch: Conditioning) -> Conditioning | PreparedConditioning:
        """What does not change from step to step, computed once."""
        return self.model.prepare(branch, cache=True)

    def predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        branch: Conditioning | PreparedConditioning,
        number: int,
        index: int,
    ) -> Tensor:
        """Predictions of a branch, or of all that are stacked in it, at step ``number``."""
        outputs: Tensor = self.model(latents, timestep.expand(len(latents)), branch)
        return outputs.float()

    def guided(self, predictions: Sequence[Tensor]) -> Tensor:
        """The guided prediction (B, c, h, w)."""
        rule = self.rule
        if len(predictions) == 2:
            own, empty = predictions
            return classifier_free_guidance(own, empty, rule.text_guidance_scale)
        full, image, nothing = predictions
        return three_branch_guidance(
            full, image, nothing, rule.text_guidance_scale, rule.image_guidance_scale
        )
