"""The Guider's arithmetic, bit for bit, and what other nodes' functions see of it."""

from __future__ import annotations

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


def run(watched: Watched, scales: tuple[float, float]) -> torch.Tensor:
    watched.guider.set_scales(*scales)
    return denoise_once(watched.guider, watched.noise, TIMESTEP)


@pytest.mark.parametrize("scales", SCALES)
def test_guided_as_by_the_formula(watched: Watched, scales: tuple[float, float]) -> None:
    """As ComfyUI's plain guidance of image and unconditional branch, and the text's step on it."""
    got = run(watched, scales)
    computed = watched.predictions
    nothing = torch.zeros_like(computed["positive"])
    text, image, uncond = (computed.get(name, nothing) for name in BRANCHES)
    guided = uncond + (image - uncond) * scales[1]
    assert torch.equal(got, guided + scales[0] * (text - image))


def test_branches_without_weight_are_not_computed(watched: Watched) -> None:
    computed = []
    for scales in SCALES[:3]:
        run(watched, scales)
        computed.append(set(watched.predictions))
    assert computed == [set(BRANCHES), set(BRANCHES[:2]), {"positive"}]


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
