# Shapes: B batch of the latent, A number of alphas, S number of sampling steps.
"""Interpolate: from the subject to a plain text-to-image picture (Subject-Diffusion, eq. 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import comfy.model_management
import comfy.sample
import comfy.utils
import torch
from comfy_api.latest import io

from ...subject_diffusion_core.schema import printed
from ..host.comfy_types import Guider, Latent, Noise, Sampler, Sampling

NUM_TIMESTEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A latent on its way, and the noise that the next sampler call adds: zeros once it started."""

    samples: torch.Tensor
    noise: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class StripSampler:
    """Runs parts of one sampling; every part is an ordinary call of ComfyUI's sampler."""

    sampler: Sampler
    sigmas: torch.Tensor
    seed: int
    on_step: Callable[[], None]

    def run(self, guider: Guider, segment: Segment, first: int, last: int) -> Segment:
        """Steps first .. last - 1 with `guider`."""
        if first == last:
            return segment
        samples = guider.sample(
            segment.noise,
            segment.samples,
            self.sampler,
            self.sigmas[first : last + 1],
            callback=lambda *_: self.on_step(),
            disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
            seed=self.seed,
        ).to(comfy.model_management.intermediate_device())
        return Segment(samples=samples, noise=torch.zeros_like(segment.noise))


class SubjectDiffusionInterpolate(io.ComfyNode):
    """Two guiders and a list of alphas -> one picture per alpha."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionInterpolate",
            display_name="Subject-Diffusion Interpolate",
            category="Subject-Diffusion",
            description="Samples with the subjects first and without them later, once for each "
            "alpha: a strip from the subject (0) to the plain prompt (1). Its common part is "
            "computed once.",
            inputs=[
                io.Noise.Input("noise", tooltip="The same noise for the whole strip."),
                io.Guider.Input("guider", tooltip="With subjects: from Subject-Diffusion Guider."),
                io.Guider.Input(
                    "plain_guider",
                    tooltip="Without: a CFG Guider on the MODEL and CLIP before Apply, with the "
                    "plain prompt.",
                ),
                io.Sampler.Input(
                    "sampler",
                    tooltip="Euler, Heun and DDIM are exact. Samplers with a memory (DPM++ 2M, "
                    "LMS, ...) forget it at the change, those that add noise draw other noise.",
                ),
                io.Sigmas.Input("sigmas", tooltip="The steps of the whole sampling."),
                io.Latent.Input("latent_image", tooltip="An empty latent of the picture's size."),
                io.String.Input(
                    "alphas",
                    default="0, 0.25, 0.5, 0.75, 1",
                    tooltip="For each picture, the share of the timesteps, at the end, that runs "
                    "without the subjects.",
                ),
            ],
            outputs=[io.Latent.Output(display_name="strip", tooltip="One latent per alpha.")],
        )

    @classmethod
    def execute(
        cls,
        noise: Noise,
        guider: Guider,
        plain_guider: Guider,
        sampler: Sampler,
        sigmas: torch.Tensor,
        latent_image: Latent,
        alphas: str,
    ) -> io.NodeOutput:
        if "noise_mask" in latent_image:
            raise ValueError(
                "latent_image: expected a latent without a noise mask, as the masked part would be "
                "lost at the change of guiders, got one with a mask. Remove the mask."
            )
        if len(sigmas) < 2:
            raise ValueError(
                f"sigmas: expected at least one step, got {len(sigmas)} numbers. Raise `steps` or "
                "`denoise` of the scheduler."
            )
        sampling = guider.model_patcher.get_model_object("model_sampling")
        cuts = [num_subject_steps(alpha, sigmas, sampling) for alpha in parse_alphas(alphas)]
        samples = comfy.sample.fix_empty_latent_channels(
            guider.model_patcher, latent_image["samples"]
        )
        latent: Latent = {**latent_image, "samples": samples}
        start = Segment(samples=samples, noise=noise.generate_noise(latent))
        progress = comfy.utils.ProgressBar(total_steps(cuts, len(sigmas) - 1))
        runner = StripSampler(
            sampler=sampler, sigmas=sigmas, seed=noise.seed, on_step=lambda: progress.update(1)
        )
        strip = sample_strip(runner, guider, plain_guider, start, cuts)
        return io.NodeOutput({**repeated_indices(latent, len(cuts)), "samples": torch.cat(strip)})


def repeated_indices(latent: Latent, times: int) -> Latent:
    """The latent's entries for its batch, repeated: each picture keeps the index of its noise."""
    if "batch_index" not in latent:
        return latent
    return {**latent, "batch_index": list(latent["batch_index"]) * times}


def sample_strip(
    runner: StripSampler, guider: Guider, plain_guider: Guider, start: Segment, cuts: Sequence[int]
) -> list[torch.Tensor]:
    """For each cut the picture whose first `cut` steps have the subjects; equal steps run once."""
    last = len(runner.sigmas) - 1
    segment, done = start, 0
    finished: dict[int, torch.Tensor] = {}
    for cut in sorted(set(cuts)):
        segment, done = runner.run(guider, segment, done, cut), cut
        finished[cut] = runner.run(plain_guider, segment, cut, last).samples
    return [finished[cut] for cut in cuts]


def total_steps(cuts: Sequence[int], num_steps: int) -> int:
    """Sampling steps of the whole strip.

    >>> total_steps([4, 2, 2], 4)
    6
    """
    return max(cuts) + sum(num_steps - cut for cut in set(cuts))


def num_subject_steps(alpha: float, sigmas: torch.Tensor, sampling: Sampling) -> int:
    """How many steps start at a timestep t > alpha * T, with T = 1000."""
    if alpha == 0.0:
        return len(sigmas) - 1
    return sum(float(sampling.timestep(sigma)) > alpha * NUM_TIMESTEPS for sigma in sigmas[:-1])


def parse_alphas(text: str) -> list[float]:
    """Numbers in 0..1, separated by commas or spaces.

    >>> parse_alphas("0, .5 1")
    [0.0, 0.5, 1.0]
    """
    try:
        alphas = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        alphas = []
    if not alphas or not all(math.isfinite(alpha) and 0 <= alpha <= 1 for alpha in alphas):
        raise ValueError(
            f"alphas: expected numbers from 0 to 1 such as '0, 0.5, 1', got {printed(text)}. "
            "Correct them."
        )
    return alphas
