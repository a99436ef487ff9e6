"""The example workflows are the golden API-format graphs, and ComfyUI accepts and runs both."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import execution
import folder_paths
import numpy as np
import pytest
from graphs import Graph, GraphRunner
from test_graphs import runner  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("one_subject", "two_subjects", "into_a_photo")
# Needs a checkpoint that nobody has: test_full_size.py runs it with random weights.
GRAPH_ONLY = ("sd2_base",)
NOTES = ("MarkdownNote", "Note")
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
SEEDS = ("seed", "noise_seed")


def read_json(*parts: str) -> Any:
    return json.loads(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


def example(name: str) -> dict[str, Any]:
    return read_json("example_workflows", f"{name}.json")


def golden(name: str) -> Graph:
    return read_json("tests", "golden", f"{name}.json")


def inputs_of(node_class: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, type and options of a node's inputs in the order of its schema."""
    types = node_class.INPUT_TYPES()
    for name, (kind, *options) in {**types["required"], **types.get("optional", {})}.items():
        yield name, kind, options[0] if options else {}


def is_widget(kind: Any, options: dict[str, Any]) -> bool:
    """Whether the front end draws a widget for such an input."""
    is_drawn = isinstance(kind, list | tuple) or kind in WIDGET_TYPES
    return is_drawn and not options.get("forceInput", False)


def has_second_value(name: str, kind: Any, options: dict[str, Any]) -> bool:
    """Whether the front end stores another value behind it: a seed's control, an upload button."""
    is_seed = kind == "INT" and name in SEEDS
    return is_seed or any(options.get(key) for key in ("control_after_generate", "image_upload"))


def api_inputs(node: dict[str, Any], node_class: Any, sources: dict[int, list[Any]]) -> Any:
    """The inputs of one node as the front end sends them: widgets by position, links by name."""
    values = iter(node["widgets_values"])
    links = {socket["name"]: socket["link"] for socket in node["inputs"]}
    inputs: dict[str, Any] = {}
    for name, kind, options in inputs_of(node_class):
        link = links.pop(name, None)
        if is_widget(kind, options):
            inputs[name] = next(values)
            if has_second_value(name, kind, options):
                next(values)
                links.pop("upload", None)
        if link is not None:
            inputs[name] = sources[link]
    assert list(values) == [] and links == {}, f"{node['type']}: more in the file than in its node"
    return inputs


def to_api_format(workflow: dict[str, Any], classes: dict[str, Any]) -> Graph:
    """What the front end makes of a workflow file when it queues it."""
    sources = {link: [str(node), slot] for link, node, slot, *_ in workflow["links"]}
    return {
        str(node["id"]): {
            "class_type": node["type"],
            "inputs": api_inputs(node, classes[node["type"]], sources),
        }
        for node in workflow["nodes"]
        if node["type"] not in NOTES
    }


@pytest.fixture(scope="module")
def sample_pictures() -> None:
    """What the note in the workflows tells a user to do."""
    for folder in ("subjects", "photos"):
        for picture in ROOT.joinpath("assets", folder).glob("*.png"):
            shutil.copy(picture, folder_paths.get_input_directory())


def rectangle(node: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a node with its title bar."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - 30, x + width, y + height


@pytest.mark.parametrize("name", NAMES + GRAPH_ONLY)
def test_example_equals_golden(comfy_nodes: Any, pack: Any, name: str) -> None:
    assert to_api_format(example(name), comfy_nodes.NODE_CLASS_MAPPINGS) == golden(name)


@pytest.mark.parametrize("name", NAMES + GRAPH_ONLY)
def test_links_of_the_example(comfy_nodes: Any, pack: Any, name: str) -> None:
    """Both ends of every link name it, and carry the types of the real nodes."""
    workflow, classes = example(name), comfy_nodes.NODE_CLASS_MAPPINGS
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for link, source, source_slot, target, target_slot, kind in workflow["links"]:
        output = nodes[source]["outputs"][source_slot]
        socket = nodes[target]["inputs"][target_slot]
        assert link in output["links"] and socket["link"] == link
        assert classes[nodes[source]["type"]].RETURN_TYPES[source_slot] == kind
        kinds = {field: type_ for field, type_, _ in inputs_of(classes[nodes[target]["type"]])}
        assert kinds[socket["name"]] == kind


@pytest.mark.parametrize("name", NAMES + GRAPH_ONLY)
def test_nodes_of_the_example_do_not_overlap(name: str) -> None:
    places = [(node["id"], rectangle(node)) for node in example(name)["nodes"]]
    for index, (first, a) in enumerate(places):
        for second, b in places[index + 1 :]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"nodes {first} and {second} overlap"


@pytest.mark.parametrize("name", NAMES)
def test_comfyui_accepts_the_golden_graph(
    comfy_nodes: Any, pack: Any, sample_pictures: None, name: str
) -> None:
    validation = execution.validate_prompt(str(uuid.uuid4()), golden(name), None)
    is_valid, error, _, node_errors = asyncio.run(validation)
    assert is_valid and not node_errors, (error, node_errors)


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_graph_runs(
    runner: GraphRunner,  # noqa: F811
    sample_pictures: None,
    name: str,
) -> None:
    """With a random model and two steps: a picture of the size asked for comes out."""
    graph = golden(name)
    for node in graph.values():
        if node["class_type"] == "SaveImage":
            node["inputs"]["filename_prefix"] = "graph"
        if node["class_type"] == "BasicScheduler":
            node["inputs"]["steps"] = 2
    picture = runner.run(graph)
    assert picture.shape == (128, 128, 3)
    assert len(np.unique(picture)) > 1
