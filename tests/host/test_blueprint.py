"""The subgraph blueprints: ComfyUI finds them, and their inner graphs make a picture."""

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
PERSONALISE, LOOK = "Personalise", "Look at a Subject"
OUTSIDE_INPUT, OUTSIDE_OUTPUT = -10, -20  # the two sides of a subgraph in its links
INPUTS = {
    PERSONALISE: [
        ("image", "IMAGE"),
        ("mask", "MASK"),
        ("label", "STRING"),
        ("box", "STRING"),
        ("other_subjects", "SUBJECTS"),
        ("prompt", "STRING"),
        ("width", "INT"),
        ("height", "INT"),
        ("noise_seed", "INT"),
    ],
    LOOK: [
        ("model", "MODEL"),
        ("clip", "CLIP"),
        ("vae", "VAE"),
        ("image", "IMAGE"),
        ("mask", "MASK"),
        ("other_subjects", "SUBJECTS"),
        ("label", "STRING"),
        ("box", "STRING"),
        ("prompt", "STRING"),
        ("negative_prompt", "STRING"),
        ("omega_ref", "FLOAT"),
        ("width", "INT"),
        ("height", "INT"),
        ("seed", "INT"),
    ],
}


def read(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The node outside, and the subgraph."""
    workflow = json.loads((ROOT / "subgraphs" / f"{name}.json").read_text(encoding="utf-8"))
    (outside,), (subgraph,) = workflow["nodes"], workflow["definitions"]["subgraphs"]
    assert outside["type"] == subgraph["id"]
    return outside, subgraph


def inner_graph(blueprint: str, classes: dict[str, Any], given: dict[str, Any]) -> Graph:
    """The subgraph as ComfyUI runs it: `given` stands for what is connected or written outside."""
    _, subgraph = read(blueprint)
    names = [name for name, _ in INPUTS[blueprint]]
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
                if options.get("control_after_generate", name == "noise_seed"):
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


@pytest.mark.parametrize("name", INPUTS)
def test_its_outside(name: str) -> None:
    outside, subgraph = read(name)
    for inputs in (outside["inputs"], subgraph["inputs"]):
        assert [(slot["name"], slot["type"]) for slot in inputs] == INPUTS[name]
    assert [slot["type"] for slot in outside["outputs"]] == ["IMAGE"]
    assert subgraph["name"] == name
    widgets = [slot["name"] for slot in outside["inputs"] if "widget" in slot]
    assert [widget for _, widget in outside["properties"]["proxyWidgets"]] == widgets
    assert len(outside["widgets_values"]) == len(widgets)


@pytest.mark.parametrize("name", INPUTS)
def test_its_links_agree(name: str) -> None:
    """What the slots say of their links is what the list of links says."""
    _, subgraph = read(name)
    nodes = {each["id"]: each for each in subgraph["nodes"]}
    for link in subgraph["links"]:
        origin, target = link["origin_id"], link["target_id"]
        if origin == OUTSIDE_INPUT:
            assert link["id"] in subgraph["inputs"][link["origin_slot"]]["linkIds"]
        else:
            assert link["id"] in nodes[origin]["outputs"][link["origin_slot"]]["links"]
        if target == OUTSIDE_OUTPUT:
            assert link["id"] in subgraph["outputs"][link["target_slot"]]["linkIds"]
        else:
            assert nodes[target]["inputs"][link["target_slot"]]["link"] == link["id"]
    said = [slot["link"] for each in nodes.values() for slot in each["inputs"] if slot["link"]]
    assert len(said) == len(subgraph["links"]) - 1


def test_comfyui_finds_it(pack: Any) -> None:
    manager = pytest.importorskip("app.subgraph_manager", reason="this ComfyUI has no blueprints")
    found = asyncio.run(manager.SubgraphManager().get_custom_node_subgraphs({}))
    assert sorted(entry["name"] for entry in found.values()) == sorted(INPUTS)


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
    graph = inner_graph(PERSONALISE, comfy_nodes.NODE_CLASS_MAPPINGS, given)
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


def test_looking_at_a_subject_runs(
    runner: GraphRunner,  # noqa: F811
    comfy_nodes: Any,
    base_folder: Path,
) -> None:
    """With the small model in the place of a checkpoint; the subject's picture matters."""
    make_pictures(base_folder / "input")
    given = {
        "model": ["loader", 0],
        "clip": ["loader", 1],
        "vae": ["loader", 2],
        "image": ["picture", 0],
        "mask": ["picture", 1],
        "other_subjects": None,
        "label": "dog",
        "box": "0.1,0.2,0.5,0.9",
        "prompt": "a dog on a beach",
        "negative_prompt": "",
        "omega_ref": 3.0,
        "width": 64,
        "height": 96,
        "seed": 7,
    }
    pictures = []
    for omega in (3.0, 0.0):
        graph = inner_graph(LOOK, comfy_nodes.NODE_CLASS_MAPPINGS, {**given, "omega_ref": omega})
        graph["loader"] = node("SubjectDiffusionTinyLoader")
        graph["picture"] = node("LoadImage", image="cutout.png")
        (sampler,) = (each for each in graph.values() if each["class_type"] == "KSampler")
        sampler["inputs"]["steps"] = 2
        pictures.append(runner.run(graph))
    assert pictures[0].shape == (96, 64, 3)
    assert not np.array_equal(*pictures)
