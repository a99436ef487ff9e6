"""Every sampler of this ComfyUI, with a few schedulers, under two and three branches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.samplers
import pytest
import torch
from host_models import Base, Host, cfg_guider, random_context, random_noise, relative_error

SCHEDULERS = ("normal", "karras", "beta")


class Setup:
    """A tiny base, an adapter on it, and three branches."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.base: Base = host.make_base()
        self.loaded = host.make_adapter(self.base, folder)
        self.model, _ = host.apply_node.apply_adapter(self.base.model, self.base.clip, self.loaded)
        self.noise = random_noise(self.base, size=(8, 8))
        self.branches = [
            host.conditioning(random_context(self.base, i), host.branch(self.loaded, count))
            for i, count in enumerate((2, 2, 0))
        ]

    def two_branches(self, model: Any) -> Any:
        return cfg_guider(model, self.branches[0], self.branches[2], cfg=2.0)

    def three_branches(self, model: Any) -> Any:
        guider = self.host.guider_node.ThreeBranchGuider(model)
        guider.set_branches(*self.branches)
        guider.set_scales(2.0, 1.5)
        return guider

    def run(self, guider: Any, sampler_name: str, scheduler: str) -> torch.Tensor:
        sampling = guider.model_patcher.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, 2)
        sampler = comfy.samplers.sampler_object(sampler_name)
        zeros = torch.zeros_like(self.noise)
        return guider.sample(self.noise, zeros, sampler, sigmas, seed=0, disable_pbar=True)


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    with torch.inference_mode():
        return Setup(host, tmp_path_factory.mktemp("samplers"))


def test_schedulers_exist() -> None:
    assert set(SCHEDULERS) <= set(comfy.samplers.SCHEDULER_NAMES)
    assert len(comfy.samplers.SAMPLER_NAMES) >= 40


@pytest.mark.parametrize("sampler_name", comfy.samplers.SAMPLER_NAMES)
def test_sampler(setup: Setup, sampler_name: str) -> None:
    """A finite latent that the subjects change, the same again from the same seed."""
    for scheduler in SCHEDULERS:
        got = setup.run(setup.two_branches(setup.model), sampler_name, scheduler)
        assert bool(got.isfinite().all()), scheduler
        stock = setup.run(setup.two_branches(setup.base.model), sampler_name, scheduler)
        assert relative_error(got, stock) > 1e-2, scheduler
    again = setup.run(setup.two_branches(setup.model), sampler_name, scheduler)
    assert torch.equal(got, again)
    three = setup.run(setup.three_branches(setup.model), sampler_name, scheduler)
    assert bool(three.isfinite().all())
    assert relative_error(three, got) > 1e-3
