"""The guider of DreamTuner eq. 4 to 6 next to ComfyUI's own guidance."""

from __future__ import annotations

import logging
from typing import Any

import comfy.samplers
import pytest
import torch
from host_models import Host, cfg_guider, denoise_once, relative_error, sample
from reference_models import ReferenceBench, bench_of

OMEGA_R, OMEGA_C = 2.5, 6.0


class Setup:
    """A model with references, its conditionings, and guiders on them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.bench: ReferenceBench = bench_of(host)
        self.model = self.bench.attached()
        subject = self.bench.subject(self.bench.reference((12, 20)))
        self.plain = self.bench.text()
        self.positive = self.bench.seeing(self.plain, subject)
        self.negative = self.bench.seeing(self.bench.text(4), subject)
        self.noise = self.bench.noise()

    def guider(
        self,
        probability: float,
        mode: str = "interleaved",
        reference: float = OMEGA_R,
        text: float = OMEGA_C,
        model: Any = None,
        draw_seed: int = -1,
    ) -> Any:
        node = self.host.dreamtuner_guider_node.SubjectDiffusionDreamTunerGuider
        model = model or self.model
        settings = (mode, reference, text, probability, draw_seed)
        return node.execute(model, self.positive, self.negative, *settings).args[0]

    def plain_guidance(self, positive: Any, negative: Any, scale: float) -> Any:
        return cfg_guider(self.model, positive, negative, scale)


@pytest.fixture(scope="module")
def setup(host: Host) -> Setup:
    with torch.inference_mode():
        return Setup(host)


@pytest.mark.parametrize("mode", ["interleaved", "expected"])
def test_without_reference_steps_it_is_comfyuis_guidance(setup: Setup, mode: str) -> None:
    wanted = sample(setup.plain_guidance(setup.positive, setup.negative, OMEGA_C), setup.noise)
    assert torch.equal(sample(setup.guider(0.0, mode), setup.noise), wanted)


@pytest.mark.parametrize("mode", ["interleaved", "expected"])
def test_reference_steps_alone_by_hand(setup: Setup, mode: str) -> None:
    """Scale 1 is the branch with the reference, scale 0 the stock branch."""
    seen = denoise_once(setup.plain_guidance(setup.positive, setup.plain, 1.0), setup.noise, 500)
    stock = denoise_once(cfg_guider(setup.bench.model, setup.plain, setup.plain), setup.noise, 500)
    for scale, wanted in ((1.0, seen), (0.0, stock), (2.5, stock + 2.5 * (seen - stock))):
        guided = denoise_once(setup.guider(1.0, mode, reference=scale), setup.noise, 500)
        assert relative_error(guided, wanted) < 1e-5


def test_steps_follow_the_draws(setup: Setup) -> None:
    """Seed and the noise level where a step begins decide, so a batch's rows, and Heun's two calls
    of a noise level, agree."""
    use_reference = setup.host.dreamtuner_guider_node.use_reference
    draws = [use_reference(0.5, seed, 0.1 + step) for seed in range(40) for step in range(25)]
    assert 0.45 < sum(draws) / len(draws) < 0.55
    assert use_reference(0.5, 3, 10.0) != use_reference(0.5, 3, 5.0)
    assert use_reference(0.5, 3, 5.0) == use_reference(0.5, 3, 5.00001)
    steps = setup.host.steps
    sigmas = torch.tensor([10.0, 5.0, 1.0, 0.0])
    levels = [torch.tensor([level]) for level in (10.0, 7.0, 5.0, 5.0, 2.0, 1.0, 0.5)]
    assert [steps.step_of(level, sigmas) for level in levels] == [0, 0, 1, 1, 1, 2, 2]
    begins = [steps.level_of_step(level, sigmas) for level in levels]
    assert begins == [10.0, 10.0, 5.0, 5.0, 5.0, 1.0, 1.0]
    assert steps.level_of_step(levels[1], None) == 7.0


@pytest.mark.parametrize("cut", [1, 3])
@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2"])
def test_two_stages_are_one_run(setup: Setup, sampler: str, cut: int) -> None:
    """As Split Sigmas and Disable Noise make them: the second one has no seed of its own."""

    def run(noise: torch.Tensor, latent: torch.Tensor, sigmas: torch.Tensor, seed: int) -> Any:
        guider = setup.guider(0.5, draw_seed=7)
        chosen = comfy.samplers.sampler_object(sampler)
        return guider.sample(noise, latent, chosen, sigmas, seed=seed)

    sampling = setup.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 6)
    nothing = torch.zeros_like(setup.noise)
    whole = run(setup.noise, nothing, sigmas, 5)
    first = run(setup.noise, nothing, sigmas[: cut + 1], 5)
    second = run(nothing, first, sigmas[cut:], 0)
    assert relative_error(second, whole) < 1e-4
    draws = setup.host.dreamtuner_guider_node.use_reference
    followed = [draws(0.5, 7, float(level)) for level in sigmas[:-1]]
    assert len(set(followed)) == 2


def test_the_draws_seed_is_the_samplers_unless_given(setup: Setup) -> None:
    wanted = sample(setup.guider(0.5), setup.noise)
    runs = [sample(setup.guider(0.5, draw_seed=seed), setup.noise) for seed in range(4)]
    assert torch.equal(runs[0], wanted)  # the seed of `sample`
    assert any(relative_error(each, wanted) > 1e-4 for each in runs[1:])


@pytest.mark.parametrize("sampler", ["euler", "heun"])
def test_batch_is_singles(setup: Setup, sampler: str) -> None:
    noise = setup.bench.noise(3)
    batch = sample(setup.guider(0.5), noise, sampler=sampler)
    single = sample(setup.guider(0.5), noise[1:2], sampler=sampler)
    assert relative_error(batch[1:2], single) < 1e-5
    assert torch.equal(sample(setup.guider(0.5), noise, sampler=sampler), batch)


def test_expected_is_the_mean_of_interleaved(setup: Setup) -> None:
    ours = denoise_once(setup.guider(0.9, "expected"), setup.noise, 500)
    reference, text = (
        denoise_once(setup.guider(probability), setup.noise, 500) for probability in (1.0, 0.0)
    )
    assert relative_error(ours, 0.9 * reference + 0.1 * text) < 1e-5
    draws = [setup.host.dreamtuner_guider_node.use_reference(0.9, seed, 9) for seed in range(1000)]
    mean = sum(draws) / 1000 * reference + (1 - sum(draws) / 1000) * text
    assert relative_error(mean, ours) < 0.05


def test_others_functions_take_part(setup: Setup) -> None:
    """A post-CFG function sees predictions and scale of each plain guidance."""
    seen = []

    def post_cfg(args: dict[str, Any]) -> torch.Tensor:
        seen.append(args["cond_scale"])
        assert args["cond"] is not None and args["uncond"] is not None
        return args["denoised"] + 1.0

    model = setup.model.clone()
    model.set_model_sampler_post_cfg_function(post_cfg)
    for mode, scales in (("interleaved", [OMEGA_R]), ("expected", [OMEGA_R, OMEGA_C])):
        probability = 1.0 if mode == "interleaved" else 0.9
        plain = denoise_once(setup.guider(probability, mode), setup.noise, 500)
        moved = denoise_once(setup.guider(probability, mode, model=model), setup.noise, 500)
        assert torch.allclose(moved, plain + 1.0, atol=1e-4)
        assert seen == scales
        seen.clear()


def test_functions_before_the_guidance_take_part(setup: Setup) -> None:
    """In both modes, as in ComfyUI's own guider."""
    model, scales = setup.model.clone(), []

    def pre_cfg(args: dict[str, Any]) -> list[torch.Tensor]:
        scales.append(args["cond_scale"])
        return [prediction + 1.0 for prediction in args["conds_out"]]

    model.set_model_sampler_pre_cfg_function(pre_cfg)
    for mode, seen in (("interleaved", [OMEGA_R]), ("expected", [OMEGA_R, OMEGA_C])):
        probability = 1.0 if mode == "interleaved" else 0.9
        plain = denoise_once(setup.guider(probability, mode), setup.noise, 500)
        moved = denoise_once(setup.guider(probability, mode, model=model), setup.noise, 500)
        assert torch.allclose(moved, plain + 1.0, atol=1e-4)
        assert scales == seen
        scales.clear()


def test_an_unknown_mode_is_refused(setup: Setup) -> None:
    with pytest.raises(ValueError, match="mode: expected interleaved or expected, got 'mean'"):
        setup.guider(0.9, "mean")


def test_warnings(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sample(setup.guider(0.9), setup.noise, steps=1, sampler="euler")
        sample(setup.guider(0.9, "expected"), setup.noise, steps=2, sampler="dpmpp_2m")
    assert not [r for r in caplog.records if "interleaved" in r.message]
    with caplog.at_level(logging.WARNING):
        sample(setup.guider(0.9), setup.noise, steps=2, sampler="dpmpp_2m")
    assert "mode interleaved changes the guidance from step to step" in caplog.text
    caplog.clear()
    setup.guider(0.9, model=setup.bench.model)
    node = setup.host.dreamtuner_guider_node.SubjectDiffusionDreamTunerGuider
    node.execute(setup.model, setup.plain, setup.negative, "expected", 2.0, 7.5, 0.9)
    assert caplog.text.count("no subjects' pictures take part") == 2
