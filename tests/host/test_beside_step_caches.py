"""EasyCache and LazyCache with conditionings that join in mid-run."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from beside_setup import SAMPLERS, Applied, Setup
from comfy_extras.nodes_easycache import EasyCacheHolder
from host_models import Host

KNOWS_LATE_ONES = hasattr(EasyCacheHolder, "can_apply_cache_diff")


@pytest.fixture(scope="module")
def setup(host: Host, comfy_nodes: Any) -> Setup:
    with torch.inference_mode():
        return Setup(host, comfy_nodes)


def sampled(setup: Setup, sampler: str, applied: Applied, node: str, start: float) -> torch.Tensor:
    settings = {"reuse_threshold": 3.0, "start_percent": start, "end_percent": 1.0}
    model = setup.call(node, model=applied.model, verbose=False, **settings)
    return setup.sample(sampler, model, applied.branches, steps=8)


def beside_another(setup: Setup, late: Applied, is_first: bool) -> Applied:
    """With another text that is there from the first step to the last: steps are left out then."""
    parts = (late.branches[0], setup.stock.branches[0])
    first, second = parts if is_first else parts[::-1]
    both = setup.call("ConditioningCombine", conditioning_1=first, conditioning_2=second)
    return replace(late, branches=(both, *setup.stock.branches[1:]))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_subjects_that_join_late(setup: Setup, sampler: str) -> None:
    """A sentence where this ComfyUI's EasyCache stumbles over them, which depends on the order of
    its calls and on the steps that it leaves out; it works by what the sentence advises."""
    sentences = []
    for start, is_first in itertools.product((0.3, 0.4, 0.5), (False, True)):
        late = beside_another(setup, setup.apply("crab", start_percent=start), is_first)
        try:
            assert bool(sampled(setup, sampler, late, "EasyCache", 0.0).isfinite().all())
        except ValueError as error:
            sentences.append(str(error))
    assert bool(sentences) != KNOWS_LATE_ONES
    assert all(one.startswith("EasyCache: expected conditionings that take") for one in sentences)
    for node, start in (("EasyCache", 0.6), ("LazyCache", 0.0)):
        assert bool(sampled(setup, sampler, late, node, start).isfinite().all())


def test_other_errors_stay_what_they_are(host: Host) -> None:
    told = host.step_caches.told_of_late_conditionings
    with pytest.raises(KeyError, match="other"), told({"transformer_options": {"easycache": 1}}):
        raise KeyError("other")
