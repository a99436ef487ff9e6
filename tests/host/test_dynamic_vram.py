"""Start and end where ComfyUI moves weights by itself ("dynamic VRAM", the default on NVIDIA cards
since 0.12): the same result as without it, from the loaders of the pack and of ComfyUI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_patcher
import numpy as np
import pytest
import torch
from dynamic_patcher import DynamicPatcher, is_known, make_weights_late
from graphs import Graph, GraphRunner, changed, ksampler_node, make_pictures
from host_models import Host, cfg_guider, random_context, random_noise, relative_error, sample
from stock_unet import load_stock_base

pytestmark = pytest.mark.skipif(not is_known(), reason="this ComfyUI has no dynamic VRAM")
SCHEDULES = {"whole": (0.0, 1.0), "from .2 to .7": (0.2, 0.7)}


@pytest.fixture(scope="module")
def runner(host: Host, base_folder: Path) -> GraphRunner:
    make_pictures(base_folder / "input")
    return GraphRunner()


def scheduled_graph(start_percent: float, end_percent: float, sampler: str) -> Graph:
    graph = changed("apply", start_percent=start_percent, end_percent=end_percent)
    graph["sigmas"]["inputs"]["steps"] = 5
    if sampler == "KSampler":
        graph["sample"] = ksampler_node(steps=5)
        for name in ("guider", "sigmas", "noise", "sampler"):
            del graph[name]
    return graph


@pytest.mark.parametrize("sampler", ["guider", "KSampler"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_tiny_loaders_picture(
    runner: GraphRunner, monkeypatch: pytest.MonkeyPatch, schedule: str, sampler: str
) -> None:
    graph = scheduled_graph(*SCHEDULES[schedule], sampler)
    wanted = runner.run(graph)
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", DynamicPatcher)
    assert np.array_equal(runner.run(graph), wanted)
    make_weights_late(monkeypatch)
    assert np.array_equal(runner.run(graph), wanted)


def stock_run(host: Host, folder: Path, loaded: Any, schedule: tuple[float, float]) -> torch.Tensor:
    base = load_stock_base(host, folder)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded, 1.0, *schedule)
    positive = host.conditioning(random_context(base), host.branch(loaded, 2))
    hook = host.family.applied_adapter(model).hook
    if hook is not None:
        positive[0][1]["hooks"] = host.schedule.HookBinder(hook).group_for(None)
    return sample(cfg_guider(model, positive, positive), random_noise(base), steps=5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_model_of_comfyuis_loader(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str
) -> None:
    loaded = host.make_adapter(load_stock_base(host, tmp_path), tmp_path)
    wanted = stock_run(host, tmp_path, loaded, SCHEDULES[schedule])
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", DynamicPatcher)
    assert load_stock_base(host, tmp_path).model.is_dynamic()
    # not bit for bit: a dynamic MODEL computes with the file's own memory, aligned in another way
    got = stock_run(host, tmp_path, loaded, SCHEDULES[schedule])
    assert relative_error(got, wanted) < 1e-5


def test_without_the_hook_comfyui_refuses(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What these tests would see if conditionings came without hooks."""
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", DynamicPatcher)
    base = load_stock_base(host, tmp_path)
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded, 1.0, 0.2, 0.7)
    positive = host.conditioning(random_context(base), host.branch(loaded, 2))
    with pytest.raises(RuntimeError, match="Hooks not implemented"):
        sample(cfg_guider(model, positive, positive), random_noise(base), steps=5)
