"""More subjects than the adapter was trained with, on the small model of this repository."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path
from typing import Any

import folder_paths
import numpy as np
import pytest
from graphs import Graph, GraphRunner, encode_node, ksampler_node, node
from host_models import Host
from test_nodes import Encoder, make_subject

SUBJECTS = Path(__file__).resolve().parents[2] / "assets" / "subjects"
NAMES = ("crab", "guitar", "owl", "hamburger", "futon", "dinosaur")
WARNING = "6 subjects at once, but the adapter 'tiny_adapter.safetensors' was trained with up to 4"
EVENT = "subject_diffusion.sentences"  # as in web/node_warnings.js


@pytest.fixture(scope="module")
def runner(comfy_nodes: Any, pack: Any) -> GraphRunner:
    for name in NAMES:
        shutil.copy(SUBJECTS / f"{name}.png", folder_paths.get_input_directory())
    return GraphRunner()


def graph_of(names: tuple[str, ...]) -> Graph:
    """The repository's own weights, boxes in two rows, two steps."""
    graph: Graph = {"loader": node("SubjectDiffusionTinyLoader")}
    for index, name in enumerate(names):
        left, top = index % 3 / 3, index // 3 / 2
        inputs: dict[str, Any] = {"image": [f"image{index}", 0], "mask": [f"mask{index}", 0]}
        if index:
            inputs["previous"] = [f"subject{index - 1}", 0]
        graph[f"image{index}"] = node("LoadImage", image=f"{name}.png")
        graph[f"mask{index}"] = node("InvertMask", mask=[f"image{index}", 1])
        graph[f"subject{index}"] = node(
            "SubjectDiffusionSubject",
            label=name,
            box=f"{left + 0.02},{top + 0.05},{left + 0.31},{top + 0.45}",
            strength=1.0,
            **inputs,
        )
    graph["apply"] = node(
        "SubjectDiffusionApply",
        model=["loader", 0],
        clip=["loader", 1],
        adapter=["loader", 4],
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )
    graph["encode"] = encode_node(
        f"subject{len(names) - 1}", "a photo of " + " and ".join(f"a {name}" for name in names)
    )
    graph["latent"] = node("EmptyLatentImage", width=128, height=128, batch_size=1)
    graph["sample"] = ksampler_node(steps=2)
    graph["decode"] = node("VAEDecode", samples=["sample", 0], vae=["loader", 2])
    graph["save"] = node("SaveImage", images=["decode", 0], filename_prefix="graph")
    return graph


def sentences_on_nodes(runner: GraphRunner) -> list[str]:
    """Sentences that ComfyUI's server would send to the browser; empties its queue."""
    server = runner._server
    server.loop.run_until_complete(asyncio.sleep(0))
    sentences: list[str] = []
    while not server.messages.empty():
        event, data, _ = server.messages.get_nowait()
        if event == EVENT:
            sentences += data["sentences"]
    return sentences


def test_six_subjects(runner: GraphRunner, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        picture = runner.run(graph_of(NAMES))
        assert WARNING in caplog.text
        assert [text for text in sentences_on_nodes(runner) if WARNING in text] != []
        caplog.clear()
        fewer = runner.run(graph_of(NAMES[:4]))
        assert "subjects at once" not in caplog.text
        assert sentences_on_nodes(runner) == []
    assert picture.shape == (128, 128, 3)
    half = np.abs(picture.astype(int) - fewer).mean(axis=2)
    assert half[:, 43:].mean() > 2


def test_ranges_that_do_not_meet_are_not_too_many(
    host: Host, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = Encoder(host, tmp_path, num_subjects=1)
    with caplog.at_level(logging.WARNING):
        encoder.encode(make_subject(host, end_percent=0.5), make_subject(host, start_percent=0.5))
        assert "subjects at once" not in caplog.text
        encoder.encode(make_subject(host, end_percent=0.6), make_subject(host, start_percent=0.5))
    assert "2 subjects at once" in caplog.text
