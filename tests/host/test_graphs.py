"""Whole graphs through ComfyUI's executor, with random models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import factories
import folder_paths
import numpy as np
import pytest
from bad_adapters import adapter_graph, write_adapter
from graphs import GraphRunner, changed, good_graph, ksampler_node, make_pictures, node
from host_models import Host


@pytest.fixture(scope="module")
def runner(
    host: Host, comfy_nodes: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GraphRunner]:
    folder = tmp_path_factory.mktemp("weights")
    factories.save_tiny_files(folder)
    original = host.tiny_loader_node.WEIGHTS
    host.tiny_loader_node.WEIGHTS = folder
    make_pictures(Path(folder_paths.get_input_directory()))
    yield GraphRunner()
    host.tiny_loader_node.WEIGHTS = original


def test_the_subjects_reach_the_picture(runner: GraphRunner) -> None:
    picture = runner.run(good_graph())
    assert picture.shape == (128, 128, 3)
    assert not np.array_equal(runner.run(changed("subject1", box="0.5,0.2,0.9,0.9")), picture)
    assert not np.array_equal(runner.run(changed("subject2", strength=0.0)), picture)
    assert not np.array_equal(runner.run(changed("apply", strength=0.5)), picture)
    assert np.array_equal(runner.run(good_graph()), picture)


def test_plain_ksampler(runner: GraphRunner) -> None:
    graph = good_graph()
    for name in ("guider", "noise", "sampler", "sigmas"):
        del graph[name]
    graph["sample"] = ksampler_node()
    assert runner.run(graph).shape == (128, 128, 3)


def test_layout_preview(runner: GraphRunner) -> None:
    graph = good_graph()
    graph["save"]["inputs"]["images"] = ["layout", 1]
    preview = runner.run(graph)
    assert preview.shape == (512, 512, 3)
    assert len(np.unique(preview.reshape(-1, 3), axis=0)) > 100


def test_an_adapter_from_the_models_folder(
    runner: GraphRunner, host: Host, models_folder: Path
) -> None:
    write_adapter("good", models_folder / "good.safetensors", host)
    assert runner.run(adapter_graph("good.safetensors")).shape == (128, 128, 3)
    (models_folder / "good.safetensors").unlink()
    assert "good.safetensors" in runner.error(adapter_graph("good.safetensors"))


def test_boxes_through_the_executor(runner: GraphRunner) -> None:
    """A wildcard input: a mask and a text from stock nodes give the boxes of both subjects."""
    wanted = runner.run(changed("subject1", box="0,0.25,0.5,0.75"))
    text = '[[0, 0.25, 0.5, 0.75], {"x": 64, "y": 16, "width": 60, "height": 100}]'
    graph = changed("layout", boxes=["text", 0])
    graph["text"] = node("PrimitiveString", value=text)
    assert np.array_equal(runner.run(graph), wanted)
    masks = changed("layout", boxes=["mask", 0])
    masks["subject2"]["inputs"]["previous"] = ["subject1", 0]
    masks["mask"] = node("SolidMask", value=1.0, width=8, height=8)
    assert "boxes: expected 2, one for each subject in order, got 1." in runner.error(masks)
