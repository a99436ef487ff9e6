"""The Guider's arithmetic, bit for bit, and what other nodes' functions see of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from host_models import Host, denoise_once, random_context, random_noise

TIMESTEP = 600
SCALES = [(3.0, 1.5), (2.0, 1.0), (1.0, 1.0), (0.0, 0.7), (7.3, 0.0)]
BRANCHES = ("positive", "image_only", "negative")


@dataclass
class Watched:
    """A guider, and what each branch of its last model call predicted."""

    guider: Any
    noise: torch.Tensor
    predictions: dict[str, torch.Tensor] = field(default_factory=dict)

    def watch(self, apply_model: Any, call: dict[str, Any]) -> torch.Tensor:
        """ComfyUI's `model_function_wrapper`."""
        output: torch.Tensor = apply_model(call["input"], call["timestep"], **call["c"])
        order = ("negative", "image_only", "positive")  # as the guider hands them over
        names = [order[index] for index in call["cond_or_uncond"]]
        self.predictions = dict(zip(names, output.chunk(len(names)), strict=True))
        return output


@pytest.fixture
def watched(host: Host, tmp_path: Path) -> Watched:
    base = host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    guider = host.guider_node.ThreeBranchGuider(model)
    counts = zip((3, 2, 0), (4, 5, 6), strict=True)
    guider.set_branches(
        *(host.conditioning(random_context(base, i), host.branch(loaded, n)) for n, i in counts)
    )
    made = Watched(guider, random_noise(base, 2))
    guider.model_options["model_function_wrapper"] = made.watch
    return made


@pytest.fixture
def scheduled(host: Host, tmp_path: Path) -> Watched:
    """As Encode makes them where Apply ends at .5: one stock text for image-only and negative."""
    base = host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded, 1.0, 0.0, 0.5)
    texts = [random_context(base, seed) for seed in (4, 5)]
    stock = [host.conditioning(text, None) for text in texts]
    inside = [
        host.conditioning(texts[index], host.branch(loaded, count))
        for index, count in ((0, 2), (1, 2), (1, 0))
    ]
    limit = host.encode_node.limit_to_range
    guider = host.guider_node.ThreeBranchGuider(model)
    guider.set_branches(
        *(
            limit(branch, 0.0, 0.5) + limit(stock[index], 0.5, 1.0)
            for branch, index in zip(inside, (0, 1, 1), strict=True)
        )
    )
    made = Watched(guider, random_noise(base, 2))
    guider.model_options["model_function_wrapper"] = made.watch
    return made


def run(watched: Watched, scales: tuple[float, float]) -> torch.Tensor:
    watched.guider.set_scales(*scales)
    return denoise_once(watched.guider, watched.noise, TIMESTEP)


@pytest.mark.parametrize("scales", SCALES)
def test_guided_as_by_the_formula(watched: Watched, scales: tuple[float, float]) -> None:
    """As ComfyUI's plain guidance of image and unconditional branch, and the text's step on it."""
    got = run(watched, scales)
    computed = watched.predictions
    nothing = torch.zeros_like(watched.noise)
    text, image, uncond = (computed.get(name, nothing) for name in BRANCHES)
    guided = uncond + (image - uncond) * scales[1]
    assert torch.equal(got, guided + scales[0] * (text - image))


def test_branches_without_weight_are_not_computed(watched: Watched) -> None:
    computed = []
    for scales in SCALES[:3]:
        run(watched, scales)
        computed.append(set(watched.predictions))
    assert computed == [set(BRANCHES), set(BRANCHES[:2]), {"positive"}]
    run(watched, (0.0, 0.7))
    assert set(watched.predictions) == set(BRANCHES[1:])
    got = run(watched, (3.0, 3.0))
    assert set(watched.predictions) == {"positive", "negative"}
    text, uncond = (watched.predictions[name] for name in ("positive", "negative"))
    torch.testing.assert_close(got, uncond + 3.0 * (text - uncond))


def test_everything_is_computed_where_a_node_asks_for_it(watched: Watched) -> None:
    watched.guider.model_options["disable_cfg1_optimization"] = True
    run(watched, (1.0, 1.0))
    assert set(watched.predictions) == set(BRANCHES)


def test_what_functions_after_guidance_see(watched: Watched) -> None:
    """The guidance of the subjects, which they may change; the text's step is added to it."""
    seen: list[dict[str, Any]] = []

    def halve(call: dict[str, Any]) -> torch.Tensor:
        seen.append(call)
        half: torch.Tensor = call["denoised"] / 2
        return half

    watched.guider.model_options["sampler_post_cfg_function"] = [halve]
    got = run(watched, (3.0, 1.5))
    text, image, uncond = (watched.predictions[name] for name in BRANCHES)
    (call,) = seen
    assert torch.equal(call["cond_denoised"], image)
    assert torch.equal(call["uncond_denoised"], uncond)
    assert torch.equal(call["denoised"], uncond + (image - uncond) * 1.5)
    assert call["cond_scale"] == 1.5
    assert torch.equal(got, call["denoised"] / 2 + 3.0 * (text - image))


def test_functions_before_guidance_take_part(watched: Watched) -> None:
    """As APG and TCFG do: they change the two predictions of the guidance of the subjects."""
    seen: list[dict[str, Any]] = []

    def keep_half(call: dict[str, Any]) -> list[torch.Tensor]:
        seen.append(call)
        return [call["conds_out"][0], call["conds_out"][1] / 2]

    watched.guider.model_options["sampler_pre_cfg_function"] = [keep_half]
    got = run(watched, (3.0, 1.5))
    text, image, uncond = (watched.predictions[name] for name in BRANCHES)
    (call,) = seen
    assert call["cond_scale"] == 1.5 and len(call["conds"]) == 2
    guided = uncond / 2 + (image - uncond / 2) * 1.5
    assert torch.equal(got, guided + 3.0 * (text - image))


def test_functions_after_guidance_act_on_the_positive_alone(watched: Watched) -> None:
    """At scales 1 and 1, as at cfg 1 of a sampler: the positive is what they get."""
    seen: list[dict[str, Any]] = []

    def keep(call: dict[str, Any]) -> torch.Tensor:
        seen.append(call)
        denoised: torch.Tensor = call["denoised"]
        return denoised

    watched.guider.model_options["sampler_post_cfg_function"] = [keep]
    got = run(watched, (1.0, 1.0))
    assert seen[0]["cond"] is not None and seen[0]["uncond"] is None
    assert torch.equal(got, watched.predictions["positive"])


@pytest.mark.parametrize("scales", [(3.0, 1.5), (3.0, 1.0), (3.0, 3.0), (1.0, 1.0)])
def test_patches_know_which_branch_they_see(watched: Watched, scales: tuple[float, float]) -> None:
    """A patch of another pack chooses between two things of its own: positive and negative."""
    chosen: list[str] = []

    def choose(q: Any, k: Any, v: Any, extra_options: dict[str, Any]) -> Any:
        chosen.extend(("cond", "uncond")[index] for index in extra_options["cond_or_uncond"])
        return q, k, v

    untouched = run(watched, scales)
    patches = watched.guider.model_options.setdefault("transformer_options", {})
    patches["patches"] = {**patches.get("patches", {}), "attn2_patch": [choose]}
    assert torch.equal(run(watched, scales), untouched)
    assert chosen.count("uncond") * len(watched.predictions) == len(chosen) * (
        "negative" in watched.predictions
    )


def test_one_prediction_for_branches_that_say_the_same(scheduled: Watched) -> None:
    """Outside of Apply's range image-only is the negative: two branches, and the same picture."""
    guider = scheduled.guider
    guider.set_scales(3.0, 1.5)
    denoise_once(guider, scheduled.noise, 900)
    assert set(scheduled.predictions) == set(BRANCHES)
    got = denoise_once(guider, scheduled.noise, 100)
    assert set(scheduled.predictions) == {"positive", "negative"}
    guider.model_options["disable_cfg1_optimization"] = True
    wanted = denoise_once(guider, scheduled.noise, 100)
    assert set(scheduled.predictions) == set(BRANCHES)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)


def test_branches_of_equal_text_with_other_options_are_all_computed(
    host: Host, scheduled: Watched
) -> None:
    """A strength of ComfyUI's own on one of them, as Conditioning Set Area Strength sets it."""
    equal, timestep = host.equal_branches.say_the_same, torch.ones(1)
    text = torch.rand(1, 77, 8)
    first = {"cross_attn": text, "uuid": 1, "model_conds": {}, "timestep_end": 0.5}
    assert equal([first], [{**first, "uuid": 2}], timestep)
    assert not equal([first], [{**first, "strength": 0.5}], timestep)
    assert not equal([first], [{**first, "cross_attn": text.clone()}], timestep)
    assert not equal([first], [first, first], timestep)
    # by its range, the second entry is not in force yet
    assert equal([first], [first, {**first, "timestep_start": 0.9}], timestep)


@pytest.mark.parametrize(("timestep", "is_guided"), [(990, False), (500, True), (10, False)])
def test_guidance_has_a_start_and_an_end(watched: Watched, timestep: int, is_guided: bool) -> None:
    """Outside, the positive alone is computed and is the prediction."""
    watched.guider.set_scales(3.0, 1.5)
    whole = denoise_once(watched.guider, watched.noise, timestep)
    watched.guider.set_range(0.2, 0.8)
    got = denoise_once(watched.guider, watched.noise, timestep)
    if is_guided:
        assert torch.equal(got, whole) and set(watched.predictions) == set(BRANCHES)
    else:
        assert set(watched.predictions) == {"positive"}
        assert torch.equal(got, watched.predictions["positive"])


def test_a_range_without_steps_has_a_sentence(
    host: Host, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    node, guider = host.guider_node.SubjectDiffusionGuider, watched.guider
    branches = [[[torch.zeros(1, 77, 8), {}]]] * 3
    with caplog.at_level(logging.WARNING):
        node.execute(guider.model_patcher, *branches, 3.0, 1.5, 0.2, 0.8)
        assert caplog.text == ""
        node.execute(guider.model_patcher, *branches, 3.0, 1.5, 0.8, 0.8)
    assert "start_percent 0.8 is not before end_percent 0.8: there is no guidance" in caplog.text
