"""Low memory: weights that ComfyUI moves out between prompts and in the middle of one.

Beside --cpu, ComfyUI refuses --lowvram and --novram; what they do elsewhere is done here by hand:
ModelPatcher.partially_unload, after which patches are computed when used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.samplers
import pytest
import torch
from host_models import (
    Base,
    Host,
    cfg_guider,
    random_context,
    random_noise,
    relative_error,
)

CPU = torch.device("cpu")
EVERYTHING = 1e32
RANGES = pytest.mark.parametrize(
    "settings", [(1.0, 0.0, 1.0), (1.0, 0.0, 0.6)], ids=["throughout", "range"]
)


class Setup:
    """A base, an adapter and two branches; runs of four steps."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.base: Base = host.make_base()
        self.loaded = host.make_adapter(self.base, folder)
        self.noise = random_noise(self.base)
        self.branches = [
            host.conditioning(random_context(self.base, i), host.branch(self.loaded, count))
            for i, count in enumerate((2, 0))
        ]

    def apply(self, settings: tuple[float, ...] = (1.0, 0.0, 1.0)) -> Any:
        return self.host.apply_node.apply_adapter(
            self.base.model, self.base.clip, self.loaded, *settings
        )[0]

    def run(self, model: Any, after_step: Callable[[int], None] | None = None) -> torch.Tensor:
        guider = cfg_guider(model, *self.branches, cfg=2.0)
        sigmas = comfy.samplers.calculate_sigmas(
            model.get_model_object("model_sampling"), "normal", 4
        )
        callback = None if after_step is None else lambda step, *_: after_step(step)
        sampler = comfy.samplers.sampler_object("euler")
        zeros = torch.zeros_like(self.noise)
        return guider.sample(
            self.noise, zeros, sampler, sigmas, callback=callback, disable_pbar=True, seed=0
        )


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    with torch.inference_mode():
        return Setup(host, tmp_path_factory.mktemp("memory"))


def loaded_patchers() -> list[Any]:
    models = comfy.model_management.current_loaded_models
    return [entry.model for entry in models if entry.model is not None]


@pytest.mark.parametrize("share", [0.3, 1.0], ids=["lowvram", "novram"])
def test_weights_that_leave_in_mid_run(setup: Setup, share: float) -> None:
    """After the first step a part of the UNet and of the adapter is moved out; the patched weights
    among it are computed anew at every use."""
    model = setup.apply()
    wanted = setup.run(model)
    counts = []

    def move_out(step: int) -> None:
        if step == 0:
            for patcher in loaded_patchers():
                patcher.partially_unload(CPU, share * patcher.model_size())
            counts.append(model.lowvram_patch_counter())

    got = setup.run(model, move_out)
    assert counts[0] > 0
    assert relative_error(got, wanted) < 1e-5
    assert torch.equal(setup.run(model), wanted)


@RANGES
def test_memory_is_freed_between_prompts(setup: Setup, settings: tuple[float, ...]) -> None:
    model = setup.apply(settings)
    wanted = setup.run(model)
    comfy.model_management.free_memory(EVERYTHING, CPU)
    assert loaded_patchers() == []
    assert torch.equal(setup.run(model), wanted)


def test_memory_is_freed_in_mid_run(setup: Setup) -> None:
    """As a ControlNet with a VAE does it: something else needs room, then the models of the run
    come back."""
    model = setup.apply()
    wanted = setup.run(model)
    freed = []

    def need_room(step: int) -> None:
        if step == 1:
            needed = comfy.model_management.loaded_models(only_currently_used=True)
            comfy.model_management.free_memory(EVERYTHING, CPU)
            freed.append(loaded_patchers() == [])
            comfy.model_management.load_models_gpu(needed)

    assert torch.equal(setup.run(model, need_room), wanted)
    assert freed == [True]


def test_the_adapters_modules_count(setup: Setup) -> None:
    """ComfyUI loads, counts and unloads them together with the UNet."""
    comfy.model_management.unload_all_models()
    model = setup.apply()
    setup.run(model)
    kinds = sorted(type(patcher.model).__name__ for patcher in loaded_patchers())
    assert "AdapterModules" in kinds
    (modules,) = model.get_additional_models()
    parameters = sum(p.numel() * p.element_size() for p in modules.model.parameters())
    assert modules.model_size() >= parameters > 0
