"""Where the adapter is off, the picture is the stock picture, bit for bit."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import comfy.samplers
import comfy_extras.nodes_custom_sampler as stock_nodes
import pytest
import torch
from host_models import Base, Host, cfg_guider, random_noise, sample

STEPS = 6


class Setup:
    """A base, an adapter, two subjects, and what Encode makes of them."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.base: Base = host.make_base()
        self.loaded = host.make_adapter(self.base, folder)
        self.vision = host.tiny_clip_vision.TinyClipVision(host.tiny)
        self.noise = random_noise(self.base, batch=2)
        image = torch.rand(1, 40, 40, 3, generator=torch.Generator().manual_seed(5))
        node = host.subject_node.SubjectDiffusionSubject
        (first,) = node.execute(image, "dog", "0.1,0.1,0.5,0.9", 1.0).args
        (self.subjects,) = node.execute(1 - image, "cat", "0.5,0.2,1,0.9", 1.0, None, first).args

    def apply(self, *settings: float) -> tuple[Any, tuple[Any, Any, Any]]:
        """MODEL, and positive, image-only, negative."""
        model, clip = self.host.apply_node.apply_adapter(
            self.base.model, self.base.clip, self.loaded, *settings
        )
        conditionings = self.host.encode_node.SubjectDiffusionEncode.execute(
            clip, self.vision, self.loaded, self.subjects, "a dog and a cat", "blurry"
        ).args
        return model, conditionings


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    with torch.inference_mode():
        return Setup(host, tmp_path_factory.mktemp("identity"))


def two_branches(model: Any, conditionings: tuple[Any, Any, Any]) -> Any:
    return cfg_guider(model, conditionings[0], conditionings[2], cfg=3.0)


def three_branches(model: Any, conditionings: tuple[Any, Any, Any]) -> Any:
    guider = stock_nodes.Guider_DualCFG(model)
    guider.set_conds(*conditionings)
    guider.set_cfg(3.0, 1.5)
    return guider


GUIDERS = pytest.mark.parametrize("make_guider", [two_branches, three_branches])


@GUIDERS
@pytest.mark.parametrize("settings", [(0.0, 0.0, 1.0), (1.0, 0.4, 0.4), (1.0, 0.7, 0.2)])
def test_off_is_stock(setup: Setup, settings: tuple[float, ...], make_guider: Any) -> None:
    model, conditionings = setup.apply(*settings)
    got = sample(make_guider(model, conditionings), setup.noise, STEPS)
    wanted = sample(make_guider(setup.base.model, conditionings), setup.noise, STEPS)
    assert torch.equal(got, wanted)
    plain = setup.host.encode_text(setup.base.clip, "a dog and a cat")
    assert torch.equal(conditionings[0][0][0], plain[0][0])


@GUIDERS
def test_strength_one_differs(setup: Setup, make_guider: Any) -> None:
    model, conditionings = setup.apply(1.0)
    got = sample(make_guider(model, conditionings), setup.noise, STEPS)
    stock = sample(make_guider(setup.base.model, conditionings), setup.noise, STEPS)
    assert (got - stock).norm() > 0.05 * stock.norm()


@GUIDERS
@pytest.mark.parametrize("steps", [slice(0, 3), slice(5, 9)], ids=["before", "after"])
def test_outside_the_range_is_stock(setup: Setup, steps: slice, make_guider: Any) -> None:
    """Sampling that stays outside start..end, with all patches in place."""
    sampling = setup.base.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 8)
    start, end = (percent_after(sigmas, index, sampling) for index in (3, 4))
    model, conditionings = setup.apply(1.0, start, end)
    plain = [
        setup.host.encode_text(setup.base.clip, text)
        for text in ("a dog and a cat", "blurry", "blurry")
    ]
    sampler = comfy.samplers.sampler_object("euler")
    latents = []
    for guider in (make_guider(model, conditionings), make_guider(setup.base.model, plain)):
        latents.append(
            guider.sample(
                setup.noise, torch.zeros_like(setup.noise), sampler, sigmas[steps], seed=0
            )
        )
    assert torch.equal(*latents)


def percent_after(sigmas: torch.Tensor, index: int, sampling: Any) -> float:
    """A percentage between two steps."""
    middle = (sigmas[index] + sigmas[index + 1]) / 2
    percents = torch.linspace(0, 1, 2001).tolist()
    return next(p for p in percents if sampling.percent_to_sigma(p) <= middle)


def test_the_range_switches_in_mid_run(setup: Setup) -> None:
    """Inside the range the run equals the adapter's own run, outside the stock run."""
    sampling = setup.base.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 8)
    start, end = (percent_after(sigmas, index, sampling) for index in (2, 4))
    model, scheduled = setup.apply(1.0, start, end)
    always_on, inside = setup.apply(1.0)
    plain = [
        setup.host.encode_text(setup.base.clip, text)
        for text in ("a dog and a cat", "blurry", "blurry")
    ]
    got = trajectory(three_branches(model, scheduled), setup.noise, sigmas)
    latent = got[0]
    for step in range(len(sigmas) - 1):
        is_inside = 3 <= step <= 4
        reference = (
            three_branches(always_on, inside)
            if is_inside
            else three_branches(setup.base.model, plain)
        )
        wanted = trajectory(reference, latent, sigmas[step : step + 2], add_noise=False)[-1]
        latent = got[step + 1]
        torch.testing.assert_close(latent, wanted, rtol=1e-4, atol=1e-4)


def trajectory(
    guider: Any, start: torch.Tensor, sigmas: torch.Tensor, add_noise: bool = True
) -> list[torch.Tensor]:
    """x before the first and after every Euler step."""
    states: list[torch.Tensor] = []

    def euler(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        x = x if add_noise else start
        states.append(x)
        for sigma, following in itertools.pairwise(sigmas):
            denoised = model(x, sigma * x.new_ones(x.shape[0]), **kwargs["extra_args"])
            x = x + (x - denoised) / sigma * (following - sigma)
            states.append(x)
        return x

    sampler = comfy.samplers.KSAMPLER(euler)
    guider.sample(start, torch.zeros_like(start), sampler, sigmas, seed=0, disable_pbar=True)
    return states


def test_a_step_on_the_boundary_belongs_to_one_side(setup: Setup) -> None:
    """ComfyUI's ranges include both ends: such a step must not use both encodings."""
    sampling = setup.base.model.get_model_object("model_sampling")
    boundary = 0.5
    sigmas = torch.tensor([10.0, sampling.percent_to_sigma(boundary), 0.5, 0.0])
    for settings in ((1.0, boundary, 1.0), (1.0, 0.0, boundary)):
        model, conditionings = setup.apply(*settings)
        batches = record_batches(model)
        three_branches(model, conditionings).sample(
            setup.noise,
            torch.zeros_like(setup.noise),
            comfy.samplers.sampler_object("euler"),
            sigmas,
            seed=0,
        )
        assert batches == [3 * len(setup.noise)] * 3


def test_two_runs_are_equal(setup: Setup) -> None:
    """ComfyUI's keyframes keep state between runs; ours must not."""
    model, conditionings = setup.apply(1.0, 0.3, 0.6)
    guider = three_branches(model, conditionings)
    sigmas = torch.tensor([1.0, 0.0])
    sampler = comfy.samplers.sampler_object("euler")
    zeros = torch.zeros_like(setup.noise)
    runs = [guider.sample(setup.noise, zeros, sampler, sigmas, seed=0) for _ in range(2)]
    assert torch.equal(*runs)


def record_batches(model: Any) -> list[int]:
    """Batch sizes of all UNet calls to come."""
    import comfy.patcher_extension

    batches: list[int] = []

    def record(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        batches.append(x.shape[0])
        return executor(x, *args, **kwargs)

    wrappers = comfy.patcher_extension.WrappersMP
    model.add_wrapper_with_key(wrappers.DIFFUSION_MODEL, "test", record)
    return batches
