"""The subgraph blueprint: ComfyUI finds it, and its inner graph makes a picture."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Graph, GraphRunner, make_pictures, node
from test_example_workflows import inputs_of, is_widget
from test_graphs import runner  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "subgraphs" / "Personalise.json"
OUTSIDE_INPUT, OUTSIDE_OUTPUT = -10, -20  # the two sides of a subgraph in its links
INPUTS = [
    ("image", "IMAGE"),
    ("mask", "MASK"),
    ("label", "STRING"),
    ("box", "STRING"),
    ("other_subjects", "SUBJECTS"),
    ("prompt", "STRING"),
    ("width", "INT"),
    ("height", "INT"),
    ("noise_seed", "INT"),
]


def read() -> tuple[dict[str, Any], dict[str, Any]]:
    """The node outside, and the subgraph."""
    workflow = json.loads(FILE.read_text(encoding="utf-8"))
    (outside,), (subgraph,) = workflow["nodes"], workflow["definitions"]["subgraphs"]
    assert outside["type"] == subgraph["id"]
    return outside, subgraph


def inner_graph(classes: dict[str, Any], given: dict[str, Any]) -> Graph:
    """The subgraph as ComfyUI runs it: `given` stands for what is connected or written outside."""
    _, subgraph = read()
    names = [name for name, _ in INPUTS]
    sources: dict[int, Any] = {}
    for link in subgraph["links"]:
        source = [str(link["origin_id"]), link["origin_slot"]]
        is_outside = link["origin_id"] == OUTSIDE_INPUT
        sources[link["id"]] = given.get(names[link["origin_slot"]]) if is_outside else source
    graph: Graph = {}
    for inner in subgraph["nodes"]:
        values = iter(inner.get("widgets_values", []))
        links = {slot["name"]: slot["link"] for slot in inner["inputs"]}
        inputs = {}
        for name, kind, options in inputs_of(classes[inner["type"]]):
            if is_widget(kind, options):
                inputs[name] = next(values)
                if options.get("control_after_generate") or name == "noise_seed":
                    next(values)
            if links.get(name) is not None and sources[links[name]] is not None:
                inputs[name] = sources[links[name]]
        assert list(values) == [], inner["type"]
        graph[str(inner["id"])] = {"class_type": inner["type"], "inputs": inputs}
    (last,) = [link for link in subgraph["links"] if link["target_id"] == OUTSIDE_OUTPUT]
    graph["save"] = node(
        "SaveImage",
        images=[str(last["origin_id"]), last["origin_slot"]],
        filename_prefix="graph",
    )
    return graph


def test_its_outside() -> None:
    outside, subgraph = read()
    for inputs in (outside["inputs"], subgraph["inputs"]):
        assert [(slot["name"], slot["type"]) for slot in inputs] == INPUTS
    assert [slot["type"] for slot in outside["outputs"]] == ["IMAGE"]
    assert subgraph["name"] == FILE.stem


def test_comfyui_finds_it(pack: Any) -> None:
    manager = pytest.importorskip("app.subgraph_manager", reason="this ComfyUI has no blueprints")
    found = asyncio.run(manager.SubgraphManager().get_custom_node_subgraphs({}))
    assert [entry["name"] for entry in found.values()] == ["Personalise"]


@pytest.mark.parametrize("more", [False, True], ids=["one subject", "two subjects"])
def test_its_graph_runs(
    runner: GraphRunner,  # noqa: F811
    comfy_nodes: Any,
    base_folder: Path,
    more: bool,
) -> None:
    make_pictures(base_folder / "input")
    given = {
        "image": ["picture", 0],
        "mask": ["picture", 1],
        "label": "dog",
        "box": "0.1,0.2,0.5,0.9",
        "prompt": "a dog and a cat",
        "width": 64,
        "height": 96,
        "other_subjects": ["other", 0] if more else None,
    }
    graph = inner_graph(comfy_nodes.NODE_CLASS_MAPPINGS, given)
    graph["picture"] = node("LoadImage", image="cutout.png")
    if more:
        graph["other_picture"] = node("LoadImage", image="opaque.png")
        graph["other"] = node(
            "SubjectDiffusionSubject",
            image=["other_picture", 0],
            label="cat",
            box="0.5,0.2,1,0.9",
            strength=1.0,
        )
    picture = runner.run(graph)
    assert picture.shape == (96, 64, 3)
    assert len(np.unique(picture)) > 1
