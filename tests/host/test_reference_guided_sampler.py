"""Reference-guided generation as a sampler in ComfyUI, in its inference mode."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from host_models import Host, cfg_guider, relative_error
from reference_models import ReferenceBench, bench_of
from test_control import make_control
from test_self_subject_attention_node import flux_model
from tuning_models import FAMILIES, Snapshot

WRAPPERS = comfy.patcher_extension.WrappersMP
STEPS = 5


class Setup:
    """A random model, a prompt, and a reference in the middle of the latent."""

    def __init__(self, host: Host, family: str = "tiny", **options: Any) -> None:
        self.host = host
        self.bench: ReferenceBench = bench_of(host, family, **options)
        self.positive, self.negative = self.bench.text(3), self.bench.text(4)
        sampling = self.bench.model.get_model_object("model_sampling")
        self.sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", STEPS)
        self.mask = torch.zeros(16, 16, dtype=torch.bool)
        self.mask[4:12, 5:13] = True

    def guidance(self, **changes: Any) -> Any:
        values = {
            "latent": self.bench.noise(seed=30),
            "mask": self.mask,
            "caption": self.bench.text(6),
            "method": "optimise",
            "num_updates": 2,
            "learning_rate": 0.01,
            "start": 0.2,
            "end": 0.8,
            "num_iterations": 1,
            **changes,
        }
        return self.host.reference_guided_sampling.ReferenceGuidance(**values)

    def sample(self, sampler: Any, noise: Any = None, guider: Any = None, **kwargs: Any) -> Any:
        noise = self.bench.noise() if noise is None else noise
        guider = guider or cfg_guider(self.bench.model, self.positive, self.negative, 4.0)
        sigmas = kwargs.pop("sigmas", self.sigmas)
        latent = torch.zeros_like(noise)
        return guider.sample(noise, latent, sampler, sigmas, seed=0, disable_pbar=True, **kwargs)

    def guided(self, guidance: Any = None, **kwargs: Any) -> Any:
        make = self.host.reference_guided_sampling.make_sampler
        return self.sample(make(guidance or self.guidance()), **kwargs)

    def euler(self, **kwargs: Any) -> Any:
        return self.sample(comfy.samplers.sampler_object("euler"), **kwargs)


@pytest.fixture(scope="module")
def setup(host: Host) -> Setup:
    with torch.inference_mode():
        return Setup(host)


def test_the_steps_before_it_are_taken_from_a_first_pass(setup: Setup) -> None:
    """With split sigmas, what Euler's sampler made of the first step is not made again."""
    noise, make = setup.bench.noise(), setup.host.reference_guided_sampling.make_sampler
    guided = range(1, 5)
    assert list(setup.guidance().steps(STEPS)) == list(guided)
    guider = cfg_guider(setup.bench.model, setup.positive, setup.negative, 4.0)
    latent = setup.sample(comfy.samplers.sampler_object("euler"), noise, sigmas=setup.sigmas[:2])
    rest = setup.guidance(start=0.0, end=1.0)
    assert list(rest.steps(STEPS - 1)) == [index - 1 for index in guided]
    split = guider.sample(
        torch.zeros_like(noise), latent, make(rest), setup.sigmas[1:], seed=0, disable_pbar=True
    )
    assert relative_error(split, setup.guided()) < 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {"num_updates": 0},
        {"mask": torch.zeros(16, 16, dtype=torch.bool)},
        {"start": 0.9, "end": 0.5},
    ],
    ids=["J = 0", "empty mask", "no steps"],
)
def test_off_is_euler(setup: Setup, changes: dict[str, Any]) -> None:
    """Bit for bit; nothing is inverted or optimised."""
    assert torch.equal(setup.guided(setup.guidance(**changes)), setup.euler())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["optimise", "caption as negative"])
def test_every_family_is_guided_and_left_as_it_was(host: Host, family: str, method: str) -> None:
    setup = Setup(host, family)
    before = Snapshot(setup.bench.model)
    guided = setup.guided(setup.guidance(method=method))
    before.assert_unchanged()
    assert torch.is_inference_mode_enabled()
    assert guided.isfinite().all()
    assert relative_error(guided[..., setup.mask], setup.euler()[..., setup.mask]) > 0.01


def test_an_inpainting_model_is_told_the_same_in_every_call(host: Host) -> None:
    """Without a picture, or with that of InpaintModelConditioning: beside the latent there are 5
    channels, equal in all calls of a run."""
    setup = Setup(host, "inpainting")
    picture = {
        "concat_latent_image": setup.bench.noise(seed=40),
        "concat_mask": torch.ones(1, 1, 16, 16),
    }
    model, seen = setup.bench.model.clone(), []

    def note(executor: Any, x: Any, t: Any, c_concat: Any, *args: Any, **kwargs: Any) -> Any:
        seen.extend(row.detach().clone() for row in c_concat)
        return executor(x, t, c_concat, *args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "note", note)
    for values in ({}, picture):
        seen.clear()
        texts = (setup.positive, setup.negative)
        conds = [[[text, {**v, **values}] for text, v in each] for each in texts]
        assert setup.guided(guider=cfg_guider(model, *conds, 4.0)).isfinite().all()
        assert len(seen) > 10 and seen[0].shape == (5, 16, 16)
        assert all(torch.equal(each, seen[0]) for each in seen)


def seen_latents(setup: Setup, guidance: Any) -> list[torch.Tensor]:
    """The latent at the beginning of every step."""
    latents: list[torch.Tensor] = []
    setup.guided(guidance, callback=lambda step, x0, x, total: latents.append(x.clone()))
    return latents


def test_only_the_mask_changes_at_the_first_guided_step(setup: Setup) -> None:
    """Before it nothing does; the inserted latent is the reference's own noise level."""
    plain: list[torch.Tensor] = []
    setup.euler(callback=lambda step, x0, x, total: plain.append(x.clone()))
    guidance = setup.guidance(start=0.4)
    make = setup.host.reference_guided_sampling.make_sampler
    latents: list[torch.Tensor] = []
    setup.sample(make(guidance), callback=lambda step, x0, x, total: latents.append(x.clone()))
    assert all(torch.equal(latents[i], plain[i]) for i in (0, 1))
    outside = ~setup.mask
    assert torch.equal(latents[2][..., outside], plain[2][..., outside])
    assert not torch.equal(latents[2][..., setup.mask], plain[2][..., setup.mask])


def test_more_updates_come_nearer(setup: Setup) -> None:
    """After one guided step, inside the mask, to the reference's latent at that level."""
    wanted = seen_latents(setup, setup.guidance(start=0.4, end=0.4))[2]  # x* at step 2, inside
    distances = []
    for updates in (1, 10):
        guidance = setup.guidance(start=0.2, end=0.2, num_updates=updates, learning_rate=0.05)
        got = seen_latents(setup, guidance)[2]
        distances.append(float((got - wanted)[..., setup.mask].norm()))
    assert distances[1] < 0.99 * distances[0]


def test_batch_is_singles(setup: Setup) -> None:
    noise = setup.bench.noise(3)
    batch = setup.guided(noise=noise)
    assert relative_error(batch[1:2], setup.guided(noise=noise[1:2])) < 1e-4


@pytest.mark.parametrize("stop", [2, 9, 14])
def test_cancel_and_error(setup: Setup, stop: int) -> None:
    """While inverting, and while optimising, where too little memory is met by one more try."""
    for failure in (None, torch.OutOfMemoryError("full")):
        model, calls, before = setup.bench.model.clone(), [], Snapshot(setup.bench.model)

        def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(None)  # noqa: B023
            if len(calls) >= stop:  # noqa: B023
                if failure is not None:  # noqa: B023
                    raise failure  # noqa: B023
                comfy.model_management.interrupt_current_processing()
            return executor(*args, **kwargs)

        model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "count", count)
        guider = cfg_guider(model, setup.positive, setup.negative, 4.0)
        error = (
            torch.OutOfMemoryError
            if failure
            else (comfy.model_management.InterruptProcessingException)
        )
        with pytest.raises(error):
            setup.guided(guider=guider)
        before.assert_unchanged()
        assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_lower_precision(host: Host, dtype: torch.dtype) -> None:
    exact, low = Setup(host, "sd15"), Setup(host, "sd15", dtype=dtype)
    low.positive, low.negative = exact.positive, exact.negative
    sampling = exact.bench.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", 2)
    error = relative_error(low.guided(sigmas=sigmas), exact.guided(sigmas=sigmas))
    plain = relative_error(low.euler(sigmas=sigmas), exact.euler(sigmas=sigmas))
    assert error < max(0.1, 5 * plain)


def test_beside_a_controlnet_and_with_ranges(setup: Setup, comfy_nodes: Any) -> None:
    """Gradients pass the ControlNet of the negative prompt; a prompt may have several ranges."""
    control = make_control(SimpleNamespace(model=setup.bench.model), "controlnet")
    hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(8))
    limit = setup.host.encode_node.limit_to_range
    parts = limit(setup.positive, 0.0, 0.41) + limit(setup.bench.text(5), 0.41, 1.0)
    positive, negative = comfy_nodes.ControlNetApplyAdvanced().apply_controlnet(
        parts, setup.negative, control, hint, 1.0, 0.0, 1.0
    )
    guider = cfg_guider(setup.bench.model, positive, negative, 4.0)
    plain, off, guided = (
        setup.euler(guider=guider),
        setup.guided(setup.guidance(num_updates=0), guider=guider),
        setup.guided(guider=guider),
    )
    assert torch.equal(off, plain)
    assert guided.isfinite().all() and relative_error(guided, plain) > 0.01
    assert relative_error(guided, setup.guided()) > 0.01


def test_the_global_noise_is_untouched(setup: Setup) -> None:
    torch.manual_seed(3)
    wanted = torch.randn(4)
    torch.manual_seed(3)
    setup.guided()
    assert torch.equal(torch.randn(4), wanted)


def test_bad_guiders_and_latents(setup: Setup) -> None:
    basic = comfy.samplers.CFGGuider(setup.bench.model)
    basic.inner_set_conds({"positive": setup.positive})
    with pytest.raises(ValueError, match="guider: expected a CFG Guider"):
        setup.guided(guider=basic)
    with pytest.raises(ValueError, match="cfg: expected another number than 1"):
        setup.guided(guider=cfg_guider(setup.bench.model, setup.positive, setup.negative, 1.0))
    two = setup.negative + setup.bench.text(9)
    with pytest.raises(ValueError, match="negative: expected one prompt for all of the picture"):
        setup.guided(guider=cfg_guider(setup.bench.model, setup.positive, two, 4.0))
    part = [[text, {**values, "end_percent": 0.3}] for text, values in setup.negative]
    with pytest.raises(ValueError, match="negative: expected a prompt for all steps, got one for"):
        setup.guided(guider=cfg_guider(setup.bench.model, setup.positive, part, 4.0))
    with pytest.raises(ValueError, match="latent_image: expected a latent without a noise mask"):
        setup.guided(denoise_mask=torch.ones(1, 1, 16, 16))
    with pytest.raises(ValueError, match="latent_image: expected the one that is sampled"):
        setup.guided(noise=setup.bench.noise(size=(16, 24)))
    with pytest.raises(
        ValueError, match=r"sigmas: expected two or more .* low_sigmas of SplitSigm"
    ):
        setup.guided(sigmas=setup.sigmas[:-1])


@pytest.mark.parametrize("branch", ["positive", "negative"])
def test_areas_are_refused_by_name(setup: Setup, branch: str) -> None:
    """ComfyUI gives the other branch the same area: a count of its prompts would mislead."""
    conds = {"positive": setup.positive, "negative": setup.negative}
    area = [[text, {**values, "area": (8, 8, 0, 0)}] for text, values in setup.bench.text(9)]
    conds[branch] = conds[branch] + area
    with pytest.raises(ValueError, match="positive, negative: expected prompts for all of the pic"):
        setup.guided(guider=cfg_guider(setup.bench.model, **conds, cfg=4.0))


def test_other_models_captions_and_vaes(setup: Setup) -> None:
    """One sentence, before anything runs."""
    flux = cfg_guider(flux_model(), setup.positive, setup.negative, 4.0)
    with pytest.raises(ValueError, match=r"model: expected a UNet .* got Flux"):
        setup.guided(noise=torch.zeros(1, 16, 16, 16), guider=flux)
    wide = [[torch.randn(1, 77, 96), {}]]
    with pytest.raises(
        ValueError, match="clip: expected the text encoder of the prompts, of width"
    ):
        setup.guided(setup.guidance(caption=wide))
    with pytest.raises(ValueError, match="vae: expected one that gives latents of 16 channels"):
        setup.guided(setup.guidance(latent=torch.randn(1, 4, 16, 16)))


def test_no_step_between_the_limits_is_said(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        made = setup.guided(setup.guidance(start=1.0, end=1.0))
    assert torch.equal(made, setup.euler())
    assert "start_percent, end_percent: none of the 5 steps lies between them" in caplog.text


def test_a_negative_for_every_picture_of_a_batch(setup: Setup) -> None:
    """Fewer texts than pictures are repeated, as ComfyUI does."""
    other = setup.bench.text(9)[0][0]
    negative = [[torch.cat((setup.negative[0][0], other)), setup.negative[0][1]]]
    noise = setup.bench.noise(4)
    made = setup.guided(
        noise=noise, guider=cfg_guider(setup.bench.model, setup.positive, negative, 4.0)
    )
    alone = cfg_guider(setup.bench.model, setup.positive, [[other, negative[0][1]]], 4.0)
    assert relative_error(made[3:], setup.guided(noise=noise[3:], guider=alone)) < 1e-4
