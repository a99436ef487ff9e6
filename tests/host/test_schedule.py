"""Start and end by ComfyUI's hooks: conditionings carry them before a guider gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.hooks
import comfy.samplers
import pytest
import torch
from host_models import Host, random_noise, sample
from test_nodes import Encoder, make_subject


class Scheduled(Encoder):
    """A tiny base with an adapter that acts from .2 to .7 of the sampling."""

    def __init__(self, host: Host, folder: Path) -> None:
        super().__init__(host, folder)
        apply = host.apply_node.apply_adapter
        self.model, self.clip = apply(self.base.model, self.base.clip, self.loaded, 1.0, 0.2, 0.7)
        self.noise = random_noise(self.base)
        self.conditionings = self.encode(make_subject(host, box="0,0,0.5,0.5"))

    def run(self, conditionings: Any, model: Any = None) -> torch.Tensor:
        guider = self.host.guider_node.ThreeBranchGuider(model or self.model)
        guider.set_branches(*conditionings)
        guider.set_scales(3.0, 1.5)
        return sample(guider, self.noise, steps=5)


@pytest.fixture(scope="module")
def scheduled(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Scheduled:
    with torch.inference_mode():
        return Scheduled(host, tmp_path_factory.mktemp("scheduled"))


def without_hooks(conditioning: Any) -> Any:
    return [[x, {k: v for k, v in values.items() if k != "hooks"}] for x, values in conditioning]


def test_every_entry_carries_one_group(scheduled: Scheduled) -> None:
    groups = [values["hooks"] for cond in scheduled.conditionings for _, values in cond]
    assert len(groups) > 3 and len(set(map(id, groups))) == 1
    assert [type(hook) for hook in groups[0].hooks] == [comfy.hooks.WeightHook]


def test_an_adapter_that_is_always_on_needs_none(host: Host, tmp_path: Path) -> None:
    encoder = Encoder(host, tmp_path)
    for conditioning in encoder.encode(make_subject(host)):
        assert all("hooks" not in values for _, values in conditioning)


def test_runs_in_a_row_are_equal(scheduled: Scheduled) -> None:
    """ComfyUI's keyframes remember the last sigma; each run has keyframes of its own."""
    first = scheduled.run(scheduled.conditionings)
    assert torch.equal(scheduled.run(scheduled.conditionings), first)
    bare = [without_hooks(conditioning) for conditioning in scheduled.conditionings]
    assert torch.equal(scheduled.run(bare), first)


def test_the_range_is_kept(scheduled: Scheduled) -> None:
    """Weights and tokens act from .2 to .7 only: neither throughout nor not at all."""
    host, base = scheduled.host, scheduled.base
    apply = host.apply_node.apply_adapter
    whole, _ = apply(base.model, base.clip, scheduled.loaded)
    ours = scheduled.conditionings
    results = [scheduled.run(ours), scheduled.run(ours, whole)]
    results.append(scheduled.run([without_hooks(c) for c in ours], base.model))
    assert len({float(latent.double().sum()) for latent in results}) == 3


def test_a_model_without_the_adapter_takes_them(scheduled: Scheduled) -> None:
    """The hook says nothing to a MODEL that does not know it: the picture is that without it."""
    base = scheduled.base
    hooked = scheduled.run(scheduled.conditionings, base.model)
    bare = [without_hooks(conditioning) for conditioning in scheduled.conditionings]
    assert torch.equal(hooked, scheduled.run(bare, base.model))


def test_hooks_of_other_nodes_stay(scheduled: Scheduled) -> None:
    """A hook that was there before, as from Create Hook LoRA, is kept beside ours."""
    other = comfy.hooks.WeightHook(strength_model=1.0, strength_clip=0.0)
    other.need_weight_init = False
    name = next(k for k in scheduled.model.model_state_dict() if k.endswith("attn1.to_q.weight"))
    weight = scheduled.model.model_state_dict()[name]
    other.weights = {name: ("diff", (torch.ones_like(weight) * 0.05,))}
    group = comfy.hooks.HookGroup()
    group.add(other)
    binder = scheduled.host.schedule.HookBinder(
        scheduled.host.family.applied_adapter(scheduled.model).hook
    )
    bare = [without_hooks(conditioning) for conditioning in scheduled.conditionings]
    both = [
        [[x, {**values, "hooks": binder.group_for(group)}] for x, values in conditioning]
        for conditioning in bare
    ]
    result = scheduled.run(both)
    assert not torch.equal(result, scheduled.run(scheduled.conditionings))
    assert torch.equal(scheduled.run(both), result)


def test_the_loaders_model_can_be_made_again(host: Host) -> None:
    """What newer ComfyUI calls for a MODEL whose weights can be switched."""
    (model, *_) = host.tiny_loader_node.SubjectDiffusionTinyLoader.execute().args
    function, arguments = model.cached_patcher_init
    again = function(*arguments, disable_dynamic=True)
    assert type(again).__name__ == "ModelPatcher"
    for (name, one), (_, other) in zip(
        model.model_state_dict().items(), again.model_state_dict().items(), strict=True
    ):
        assert torch.equal(one, other), name
