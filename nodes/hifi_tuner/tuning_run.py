# Shapes: V pictures of the subject, C channels, h, w size of a latent, T steps of a schedule.
"""Tuning an embedding on a MODEL, inside a sampling run of ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.samplers
import torch

from ...subject_diffusion_core.hifi_tuner import (
    EmbeddingTuner,
    Picture,
    TuningSettings,
    TuningState,
    TuningUpdate,
)
from ..host.activation_memory import ActivationMemory
from ..host.comfy_types import Conditioning, Model, Options, Sampling
from ..host.context_prediction import ContextPredictor
from ..host.gradients import (
    differentiable_options,
    gradients_through,
    networks_of,
)
from ..host.picture_size import without_size_check

SCHEDULE = "ddim_uniform"

# Gets the tuner and its last update.
OnUpdate = Callable[[EmbeddingTuner, TuningUpdate], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class TuningTask:
    """What to tune on.

    Attributes:
        latents: V of (1, C, h, w), as the VAE gives them.
        masks: V of (h, w) bool, True = subject; None = all of the picture.
        caption, null: the encoded caption and the encoded empty text.
        step_sigmas: (T,), falling: a set of vectors for each.
    """

    latents: Sequence[torch.Tensor]
    masks: Sequence[torch.Tensor | None]
    caption: Conditioning
    null: Conditioning
    step_sigmas: torch.Tensor
    settings: TuningSettings


def step_sigmas_of(model_sampling: Sampling, num_steps: int) -> torch.Tensor:
    """The noise levels of DDIM's steps, without the last, clean one."""
    sigmas: torch.Tensor = comfy.samplers.calculate_sigmas(model_sampling, SCHEDULE, num_steps)
    return sigmas[sigmas > 0]


def run_tuning(
    model: Model, task: TuningTask, state: TuningState | None, on_update: OnUpdate
) -> TuningState:
    """Tune to the end; `state` is where an earlier run stopped.

    ComfyUI loads the model as for sampling, with its LoRAs and memory management.
    """
    sampler = TuningSampler(task, state, on_update)
    guider = comfy.samplers.CFGGuider(without_size_check(model))
    guider.inner_set_conds({"positive": task.caption})
    # the largest picture, for ComfyUI's estimate of the memory
    latent = torch.zeros_like(max(task.latents, key=torch.Tensor.numel))
    noise = latent.expand(task.settings.batch_size, -1, -1, -1).contiguous()
    sigmas = torch.cat((task.step_sigmas, torch.zeros(1)))
    guider.sample(noise, noise, sampler, sigmas, disable_pbar=True, seed=task.settings.seed)
    assert sampler.state is not None
    return sampler.state


class TuningSampler(comfy.samplers.Sampler):
    """Tunes where others sample: the one place where ComfyUI has loaded the model and prepared its
    conditionings."""

    def __init__(self, task: TuningTask, state: TuningState | None, on_update: OnUpdate) -> None:
        self.state = state
        self._task = task
        self._on_update = on_update

    def sample(
        self,
        model_wrap: Any,
        sigmas: torch.Tensor,
        extra_args: dict[str, Any],
        callback: object,
        noise: torch.Tensor,
        *_args: object,
        **_kwargs: object,
    ) -> torch.Tensor:
        inner_model, options = model_wrap.inner_model, extra_args["model_options"]
        entries = model_wrap.conds["positive"]
        if len(entries) != 1:
            raise ValueError(
                f"clip: expected one that encodes the caption once, got {len(entries)} encodings. "
                "Remove Set CLIP Hooks before it."
            )
        with gradients_through(*networks_of(inner_model)):
            tuner = self._make_tuner(inner_model, entries[0], options, noise.device)
            self.state = tuner.state
            ActivationMemory().run(lambda: self._tune(tuner))
        return torch.zeros_like(noise)

    def _tune(self, tuner: EmbeddingTuner) -> None:
        """From where the tuner is to the end."""
        for update in tuner:
            with torch.no_grad():  # a preview may run a decoder
                self._on_update(tuner, update)
            comfy.model_management.throw_exception_if_processing_interrupted()

    def _make_tuner(
        self, inner_model: Any, entry: dict[str, Any], options: Options, device: torch.device
    ) -> EmbeddingTuner:
        task = self._task
        pictures = []
        for latent, mask in zip(task.latents, task.masks, strict=True):
            latent = inner_model.process_latent_in(latent.to(device))[0].float().clone()
            pictures.append(
                Picture(latent=latent, mask=None if mask is None else mask.to(device).clone())
            )
        return EmbeddingTuner(
            ContextPredictor(inner_model, entry, differentiable_options(options)),
            pictures,
            task.caption[0][0].to(device, torch.float32, copy=True),
            task.null[0][0].to(device, torch.float32, copy=True),
            inner_model.model_sampling.sigmas.to(device, torch.float32, copy=True),
            task.step_sigmas.to(device, copy=True),
            task.settings,
            self.state,
        )
