# Shapes: B samples, C channels, h, w size of a latent, S noise levels, L vectors of a text.
"""HiFi Tuner algorithm 2 as a sampler of ComfyUI: Euler's steps, some of them guided by the
reference inside a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.samplers
import torch
from tqdm.auto import trange

from ...subject_diffusion_core.hifi_tuner import euler_step, guided_steps, inside_outside
from ..host.comfy_types import Conditioning
from ..host.node_warnings import show_text, show_warnings
from ..host.picture_size import warn_of_size
from .guided_model import GuidedModel, Method


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceGuidance:
    """How the reference guides.

    Attributes:
        latent: (1, C, h, w), the moved reference, as the VAE gives it.
        mask: (h, w) bool, True = its subject.
        caption: of the reference.
        method: "optimise" is the paper's; "caption as negative" takes the caption in place of the
            null text inside the mask, without gradients.
        num_updates: J, per guided step.
        start, end: in 0..1 of the steps, both included.
        num_iterations: of each step of the inversion.
    """

    latent: torch.Tensor
    mask: torch.Tensor
    caption: Conditioning
    method: Method
    num_updates: int
    learning_rate: float
    start: float
    end: float
    num_iterations: int

    @property
    def is_off(self) -> bool:
        """Whether no step would be guided, however many there are."""
        has_no_updates = self.method == "optimise" and self.num_updates == 0
        return has_no_updates or self.start > self.end or not bool(self.mask.any())

    def steps(self, num_steps: int) -> range:
        """Those that are guided; none where nothing would be."""
        return range(0) if self.is_off else guided_steps(num_steps, self.start, self.end)


def make_sampler(guidance: ReferenceGuidance) -> Any:
    """A SAMPLER."""
    return comfy.samplers.KSAMPLER(sample_with_reference, {"guidance": guidance})


def sample_with_reference(
    model: Any,
    x: torch.Tensor,
    sigmas: torch.Tensor,
    extra_args: dict[str, Any],
    callback: Callable[[dict[str, Any]], None] | None = None,
    disable: bool | None = None,
    *,
    guidance: ReferenceGuidance,
) -> torch.Tensor:
    """Called by ComfyUI like its own samplers; steps that are not guided are those of `euler`."""
    warn_of_size(model.inner_model, model.latent_image)
    guided = guidance.steps(len(sigmas) - 1)
    if not guided and not guidance.is_off:
        show_warnings(
            [
                f"start_percent, end_percent: none of the {len(sigmas) - 1} steps lies between "
                "them, so the sampler is Euler's. Lower start_percent."
            ]
        )
    run = GuidedRun(model.inner_model, extra_args, guidance, sigmas, x) if guided else None
    trajectory = run.invert() if run else None
    in_batch = x.new_ones([x.shape[0]])
    for index in trange(len(sigmas) - 1, disable=disable):
        sigma, following = sigmas[index], sigmas[index + 1]
        if run is not None and trajectory is not None and index in guided:
            if index == guided[0]:
                x = inside_outside(trajectory[index].to(x), x, run.mask)
            following_x, denoised = run.step(x, sigma, following, trajectory[index + 1])
        else:
            denoised = model(x, sigma * in_batch, **extra_args)
            following_x = euler_step(x, denoised, sigma, following)
        if callback is not None:
            callback({"x": x, "i": index, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        x = following_x
    if run is not None:
        run.report()
    return x


class GuidedRun:
    """The guided steps of one sampling run."""

    def __init__(
        self,
        guider: Any,
        extra_args: dict[str, Any],
        guidance: ReferenceGuidance,
        sigmas: torch.Tensor,
        x: torch.Tensor,
    ) -> None:
        self._guidance, self._sigmas = guidance, sigmas
        self._model = GuidedModel(
            guider, extra_args, guidance.caption, x, sigmas, "Reference guidance"
        )
        self._latent = self._model.latent_of(guidance.latent, x, "reference-guided sampler")
        self.mask = guidance.mask.to(x.device)
        self._losses: list[float] = []

    def invert(self) -> torch.Tensor:
        """The reference's latents at all noise levels: (S, 1, C, h, w)."""
        return self._model.invert(self._latent, self._sigmas, self._guidance.num_iterations)

    def step(
        self, x: torch.Tensor, sigma: torch.Tensor, following: torch.Tensor, wanted: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """x_{t-1}, and the clean latent that it goes to.

        Args:
            wanted: (1, C, h, w), x*_{t-1}.
        """
        model, level = self._model, sigma.expand(len(x))
        positive, outside = comfy.samplers.calc_cond_batch(
            model.inner_model, [model.positive, model.negative], x, level, model.options
        )
        if self._guidance.method == "optimise":
            losses = model.optimise_null(
                x,
                sigma,
                following,
                positive,
                wanted,
                self.mask,
                self._guidance.num_updates,
                self._guidance.learning_rate,
            )
            self._losses += [losses[0], losses[-1]]
            inside = model.for_null()(x, level, model.null)
        else:
            inside = model.for_null()(x, level, model.caption)
        guided = inside_outside(
            model.guided(x, level, positive, inside),
            model.guided(x, level, positive, outside),
            self.mask,
        )
        return euler_step(x, guided, sigma, following), guided

    def report(self) -> None:
        """How far the updates came, on the node."""
        if self._losses:
            before, after = (sum(self._losses[i::2]) / len(self._losses[i::2]) for i in (0, 1))
            show_text([f"Distance to the reference: {before:.2e} before, {after:.2e} after."])
