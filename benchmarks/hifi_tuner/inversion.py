# Shapes: H side of a picture, Q pictures, W ways.
"""Pictures to their noise and back: in dB, beside the autoencoder's own round trip."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from subject_diffusion_core.hifi_tuner import euler_step, invert_ddim
from training.evaluation.metrics import mean_interval
from training.evaluation.pictures import real_composite
from training.evaluation.queries import Query
from training.runs import save_array
from training.toy.data.library import Library

from ..structure.in_process import InProcessHost, pack_module

GUIDANCE, NUM_UPDATES, LEARNING_RATE = 7.5, 10, 0.01


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a picture is inverted, and how it is made again.

    Attributes:
        timestep, num_iterations: of the inversion, which is at guidance 1.
        is_guided: made again at `GUIDANCE`, not at 1.
        num_updates: of the null text in each step, at most.
    """

    title: str
    timestep: str = "target"
    num_iterations: int = 1
    is_guided: bool = False
    num_updates: int = 0


WAYS = (
    Way(title="guidance 1, eq. 3 as printed", timestep="source", num_iterations=0),
    Way(title="guidance 1, at the target's timestep", num_iterations=0),
    Way(title="guidance 1, and one iteration (the default)"),
    Way(title="guidance 1, and three iterations", num_iterations=3),
    Way(title="guidance 7.5, no null text", is_guided=True),
    Way(
        title=f"guidance 7.5, null text, at most {NUM_UPDATES} updates a step",
        is_guided=True,
        num_updates=NUM_UPDATES,
    ),
)


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    """In dB, of pictures in 0..1.

    >>> round(psnr(torch.zeros(4), torch.full((4,), 0.1)), 4)
    20.0
    """
    return float(-10 * (first - second).square().mean().log10())


def measure_inversion(
    host: InProcessHost, library: Library, queries: Sequence[Query], steps: int, out: Path
) -> list[str]:
    """The table's lines; every picture's figures are kept in `out`."""
    with torch.inference_mode():
        bench = InversionBench(steps)
        path = out / f"inversion-{steps}.npy"
        done = list(np.load(path)) if path.exists() else []
        for query in tqdm(queries[len(done) :], desc="pictures"):
            image = torch.from_numpy(real_composite(library, query))[None].float() / 255
            done.append(np.array(bench.figures(image, query.prompt)))
            save_array(path, np.stack(done))
    return table(np.stack(done[: len(queries)]), steps)


def table(figures: np.ndarray, steps: int) -> list[str]:
    """Markdown lines of figures (Q, 1 + W) in dB: the autoencoder's, then each way's."""
    autoencoder = figures[:, 0]
    lines = [
        f"{len(figures)} real composites of held-out subjects and scenes, 128 x 128, {steps} steps "
        "of ddim_uniform. Mean with its 95 % bootstrap interval, worst picture; then the same "
        "picture's loss against the autoencoder alone.",
        "",
        "| | dB | worst | loss, dB | greatest loss |",
        "|---|---|---|---|---|",
        f"| the autoencoder's own round trip | {_interval(autoencoder)} | "
        f"{autoencoder.min():.2f} | - | - |",
    ]
    for way, own in zip(WAYS, figures.T[1:], strict=True):
        loss = autoencoder - own
        lines.append(
            f"| {way.title} | {_interval(own)} | {own.min():.2f} | {_interval(loss)} | "
            f"{loss.max():.2f} |"
        )
    return lines


def _interval(values: np.ndarray) -> str:
    interval = mean_interval(values)
    assert interval is not None
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


class InversionBench:
    """The small model of the pack, as its nodes load it."""

    def __init__(self, steps: int) -> None:
        loader = pack_module("tiny.tiny_loader_node").SubjectDiffusionTinyLoader
        self._model, clip, self._vae, *_ = loader.execute().args
        self._texts = pack_module("adapters.texts").TextEncoder(clip)
        self._samplers: Any = importlib.import_module("comfy.samplers")
        sampling = self._model.get_model_object("model_sampling")
        self._sigmas = self._samplers.calculate_sigmas(sampling, "ddim_uniform", steps)

    def figures(self, image: torch.Tensor, caption: str) -> list[float]:
        """dB of a picture (1, H, H, 3): through the autoencoder, and by each of `WAYS`."""
        latent = self._vae.encode(image)
        found = [psnr(self._vae.decode(latent), image)]
        for way in WAYS:
            guider = self._samplers.CFGGuider(self._model)
            guider.set_conds(self._texts.encode(caption), self._texts.encode(""))
            guider.set_cfg(GUIDANCE)
            sampler = _round_trip(self._samplers.Sampler, way, self._texts.encode(caption))
            noise = torch.zeros_like(latent)
            back = guider.sample(noise, latent, sampler, self._sigmas, seed=0, disable_pbar=True)
            found.append(psnr(self._vae.decode(back), image))
        return found


def _round_trip(sampler_class: Any, way: Way, caption: Any) -> Any:
    """A sampler of ComfyUI that inverts the latent and makes it again."""
    guided_model = pack_module("hifi_tuner.guided_model")
    replacement = pack_module("hifi_tuner.replacement_sampling")

    class RoundTrip(sampler_class):
        def sample(
            self, guider: Any, sigmas: Any, extra_args: Any, callback: Any, noise: Any,
            latent_image: Any = None, denoise_mask: Any = None, disable_pbar: bool = False,
        ) -> torch.Tensor:  # fmt: skip
            model = guided_model.GuidedModel(
                guider, extra_args, caption, latent_image, sigmas, "The bench"
            )
            predict = model.for_caption()

            def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
                denoised: torch.Tensor = predict(x, sigma.expand(len(x)), model.caption)
                return denoised

            trajectory = invert_ddim(
                denoise,
                latent_image,
                sigmas,
                way.num_iterations,
                way.timestep,  # type: ignore[arg-type]
            )
            everywhere = torch.ones(latent_image.shape[-2:], dtype=torch.bool)
            x = trajectory[0]
            for index, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
                denoised = denoise(x, sigma)
                if way.num_updates:
                    model.optimise_null(
                        x, sigma, following, denoised, trajectory[index + 1], everywhere,
                        way.num_updates, LEARNING_RATE, replacement.stop_below(index, sigmas),
                    )  # fmt: skip
                if way.is_guided:
                    level = sigma.expand(1)
                    null = model.for_null()(x, level, model.null)
                    denoised = model.guided(x, level, denoised, null)
                x = euler_step(x, denoised, sigma, following)
            return x

    return RoundTrip()
