"""What the parts of HiFi Tuner take beside plain sampling, in processor time: a Stable Diffusion
1.5 of random weights, through ComfyUI's sampling on the CPU."""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from types import ModuleType
from typing import Any

import torch

from ..full_geometry import SD15, make_base
from ..structure.in_process import pack_module
from .cost import GUIDED_STEPS, NUM_UPDATES, STEPS

CFG = 7.5
COLUMNS, REPLACED = 77, 5  # of a text, and the one whose word is replaced
TUNING_UPDATES = 4  # of which the first, which loads the model, does not count


def core_module(name: str) -> ModuleType:
    """A module of `subject_diffusion_core`, as the pack inside ComfyUI loaded it."""
    end = f".subject_diffusion_core.{name}"
    (found,) = (module for key, module in sys.modules.items() if key.endswith(end))
    return found


class Timer:
    """One model, and what samples with it, two steps each; a step ends with its callback."""

    def __init__(self, side: int) -> None:
        self._side = side
        base = make_base("SD15", SD15, torch.device("cpu"))
        with torch.no_grad():
            for parameter in base.diffusion_model.parameters():
                parameter.normal_(0.0, 0.02)
        patcher: Any = importlib.import_module("comfy.model_patcher").ModelPatcher
        cpu = torch.device("cpu")
        self._model = patcher(base, load_device=cpu, offload_device=cpu)
        self._samplers: Any = importlib.import_module("comfy.samplers")

    def plain(self) -> float:
        """A step of Euler's sampler with guidance."""
        return self._steps(self._samplers.sampler_object("euler"))[1]

    def guided(self) -> tuple[float, float]:
        """A step with `NUM_UPDATES` updates, and a step of the inversion."""
        module = pack_module("hifi_tuner.reference_guided_sampling")
        guidance = module.ReferenceGuidance(
            latent=self._latent(2),
            mask=torch.ones(self._side, self._side, dtype=torch.bool),
            start=0.0,
            end=1.0,
            **self._optimisation(),
        )
        first, second = self._steps(module.make_sampler(guidance))
        return second, (first - second) / 2

    def replacing(self) -> float:
        """A step with `NUM_UPDATES` updates."""
        module = pack_module("hifi_tuner.replacement_sampling")
        columns = pack_module("hifi_tuner.replaced_words").TextColumns
        old = tuple(range(COLUMNS))
        new = (*old[:REPLACED], "another", *old[REPLACED + 1 :])
        replacement = module.Replacement(
            latent=self._latent(2),
            mask=None,
            source=columns(tokens=old, end=10),
            target=columns(tokens=new, end=10),
            num_free_last=0,
            stops_early=False,
            keep_until=1.0,
            blend=0.0,
            **self._optimisation(),
        )
        return self._steps(module.make_sampler(replacement))[1]

    def tuning(self) -> float:
        """An update of an embedding."""
        module = pack_module("hifi_tuner.tuning_run")
        settings = core_module("hifi_tuner").TuningSettings(
            num_vectors=5, steps=TUNING_UPDATES, steps_per_set=0, learning_rate=0.005
        )
        task = module.TuningTask(
            latents=[self._latent(2)],
            masks=[None],
            caption=self._text(2),
            null=self._text(1),
            step_sigmas=module.step_sigmas_of(
                self._model.get_model_object("model_sampling"), STEPS
            ),
            settings=settings,
        )
        ends: list[float] = []
        module.run_tuning(
            self._model, task, None, lambda tuner, update: ends.append(time.process_time())
        )
        return (ends[-1] - ends[0]) / (TUNING_UPDATES - 1)

    def _optimisation(self) -> dict[str, Any]:
        return {
            "caption": self._text(2),
            "method": "optimise",
            "num_updates": NUM_UPDATES,
            "learning_rate": 0.01,
            "num_iterations": 1,
        }

    def _steps(self, sampler: Any) -> list[float]:
        """Of each of two steps; what comes before the first is part of it."""
        guider = self._samplers.CFGGuider(self._model)
        guider.set_conds(self._text(0), self._text(1))
        guider.set_cfg(CFG)
        schedule = self._model.get_model_object("model_sampling")
        sigmas = self._samplers.calculate_sigmas(schedule, "ddim_uniform", 2)
        ends: list[float] = []
        noise = self._latent(3)
        began = time.process_time()
        guider.sample(
            noise,
            torch.zeros_like(noise),
            sampler,
            sigmas,
            callback=lambda *_: ends.append(time.process_time()),
            seed=0,
            disable_pbar=True,
        )
        return [end - before for before, end in zip((began, *ends), ends, strict=False)]

    def _latent(self, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(1, 4, self._side, self._side, generator=generator)

    def _text(self, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        width: Any = SD15["context_dim"]
        return [[torch.randn(1, COLUMNS, width, generator=generator), {}]]


def measure_time(size: int, rounds: int) -> list[str]:
    """The table's lines: each part beside the plain step of its own round, and what a whole picture
    takes, put together from its steps."""
    with torch.inference_mode():
        timer = Timer(size // 8)
        timer.plain()  # whatever only a first run does
        measured = [one_round(timer) for _ in range(rounds)]
    count = torch.get_num_threads()
    lines = [
        f"Stable Diffusion 1.5 with random weights, {size} x {size}, float32, processor time, "
        f"{count} thread{'s' * (count > 1)}: each part beside a plain step with guidance of "
        f"{statistics.median(step['plain step, s'] for step in measured):.1f} s, median of "
        f"{rounds} rounds and their range.",
        "",
        "| | in plain steps |",
        "|---|---|",
    ]
    return lines + [
        f"| {name} | {spread([each[name] for each in measured])} |"
        for name in measured[0]
        if name != "plain step, s"
    ]


def one_round(timer: Timer) -> dict[str, float]:
    """Seconds of the plain step, then every part in plain steps, in the table's order."""
    plain, (guided, inversion) = timer.plain(), timer.guided()
    return in_plain_steps(
        plain=plain,
        tuning=timer.tuning(),
        inversion=inversion,
        guided=guided,
        replacing=timer.replacing(),
    )


def in_plain_steps(
    *, plain: float, tuning: float, inversion: float, guided: float, replacing: float
) -> dict[str, float]:
    """Lines of the table from the seconds of each kind of step."""
    before = STEPS * (plain + inversion)
    picture = before + (STEPS - GUIDED_STEPS) * plain + GUIDED_STEPS * guided
    return {
        "plain step, s": plain,
        "tuning step": tuning / plain,
        "step of the inversion, one iteration": inversion / plain,
        f"guided step of {NUM_UPDATES} updates": guided / plain,
        f"replacement step of {NUM_UPDATES} updates": replacing / plain,
        f"picture of {STEPS} steps, {GUIDED_STEPS} guided, with inversion and first pass, in plain "
        "pictures": picture / (STEPS * plain),
    }


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
