"""Bases to tune embeddings on, and a tuning run on each without the node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from host_models import Host
from reference_models import ReferenceBench, bench_of

FAMILIES = ("tiny", "sd15", "sd2", "sdxl", "inpainting")


@dataclass(kw_only=True, eq=False)
class TuningBench:
    """A base, random pictures and texts.

    Attributes:
        updates: the numbers and losses of the last run.
    """

    host: Host
    base: ReferenceBench
    updates: list[tuple[int, float]]

    @property
    def model(self) -> Any:
        return self.base.model

    def settings(self, **changes: Any) -> Any:
        values = {"num_vectors": 5, "steps": 3, "steps_per_set": 1, "learning_rate": 0.01}
        return self.host.core("hifi_tuner").TuningSettings(**{**values, **changes})

    def task(self, sizes: tuple[tuple[int, int], ...] = ((16, 16),), **changes: Any) -> Any:
        """Random pictures; half of each is the subject."""
        latents = [self.base.noise(size=size, seed=50 + i) for i, size in enumerate(sizes)]
        masks = [torch.arange(h)[:, None].expand(h, w) < h // 2 for h, w in sizes]
        sampling = self.model.get_model_object("model_sampling")
        step_sigmas = self.host.tuning_run.step_sigmas_of(sampling, changes.pop("num_sets", 4))
        return self.host.tuning_run.TuningTask(
            latents=latents,
            masks=masks,
            caption=self.base.text(3),
            null=self.base.text(4),
            step_sigmas=step_sigmas,
            settings=self.settings(**changes),
        )

    def run(self, task: Any, model: Any = None, state: Any = None, on_update: Any = None) -> Any:
        self.updates = []

        def note(tuner: Any, update: Any) -> None:
            self.updates.append((update.number, update.loss))
            if on_update is not None:
                on_update(tuner, update)

        return self.host.tuning_run.run_tuning(model or self.model, task, state, note)


def tuning_bench(host: Host, family: str = "tiny", **options: Any) -> TuningBench:
    return TuningBench(host=host, base=bench_of(host, family, **options), updates=[])


class Snapshot:
    """A model's weights: which objects they are, their flags and their numbers."""

    def __init__(self, model: Any) -> None:
        self._model = model.model
        self._tensors = [
            (holder, name, tensor, tensor.requires_grad, tensor.clone())
            for module in self._model.modules()
            for holder in (module._parameters, module._buffers)
            for name, tensor in holder.items()
            if tensor is not None
        ]
        self._forwards = {id(m): vars(m).get("forward") for m in self._model.modules()}

    def assert_unchanged(self) -> None:
        assert len(self._tensors) > 100
        for holder, name, tensor, flag, numbers in self._tensors:
            assert holder[name] is tensor, name
            assert tensor.requires_grad == flag, name
            assert torch.equal(tensor, numbers), name
            assert tensor.grad is None, name
        forwards = {id(m): vars(m).get("forward") for m in self._model.modules()}
        assert forwards == self._forwards
