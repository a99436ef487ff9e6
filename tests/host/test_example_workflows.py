"""The example workflows are the golden API-format graphs, and ComfyUI accepts and runs both."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import execution
import numpy as np
import pytest
from example_files import write_example_files
from graphs import Graph, GraphRunner
from host_models import Host
from test_graphs import runner  # noqa: F401

from devtools.api_client import ComfyClient, PromptError

ROOT = Path(__file__).resolve().parents[2]
# Need checkpoints that are not here: test_full_size.py runs sd2_base with random weights.
GRAPH_ONLY = [
    "dreamtuner_sd15",
    "sd15_ip_adapter",
    "sd2_base",
    "sdxl_ms_diffusion",
    "self_subject_attention_sd15",
]
FILES = sorted(path.stem for path in (ROOT / "example_workflows").glob("*.json"))
NAMES = [name for name in FILES if name not in GRAPH_ONLY]
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
    is_controlled = options.get("control_after_generate", is_seed)
    return bool(is_controlled or options.get("image_upload"))


def api_inputs(node: dict[str, Any], node_class: Any, sources: dict[int, list[Any]]) -> Any:
    """The inputs of one node as the front end sends them: widgets by position, links by name."""
    values = iter(node.get("widgets_values", []))
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


def to_api_format(workflow: dict[str, Any], comfy_nodes: Any) -> Graph:
    """What the front end makes of a workflow file when it queues it or saves it for the API."""
    classes, names = comfy_nodes.NODE_CLASS_MAPPINGS, comfy_nodes.NODE_DISPLAY_NAME_MAPPINGS
    sources = {link: [str(node), slot] for link, node, slot, *_ in workflow["links"]}
    return {
        str(node["id"]): {
            "class_type": node["type"],
            "inputs": api_inputs(node, classes[node["type"]], sources),
            "_meta": {"title": node.get("title") or names.get(node["type"], node["type"])},
        }
        for node in workflow["nodes"]
        if node["type"] not in NOTES
    }


@pytest.fixture(scope="module")
def example_files(base_folder: Path, host: Host) -> None:
    """What the notes in the workflows tell a user to do."""
    write_example_files(base_folder, host)


def rectangle(node: dict[str, Any]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a node with its title bar."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - 30, x + width, y + height


@pytest.mark.parametrize("name", NAMES + GRAPH_ONLY)
def test_example_equals_golden(comfy_nodes: Any, pack: Any, name: str) -> None:
    assert to_api_format(example(name), comfy_nodes) == golden(name)


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


def test_every_example_has_a_picture_and_a_golden_graph() -> None:
    golden_names = sorted(path.stem for path in (ROOT / "tests" / "golden").glob("*.json"))
    pictures = sorted(path.stem for path in (ROOT / "example_workflows").glob("*.jpg"))
    assert golden_names == FILES
    assert pictures == FILES


@pytest.mark.parametrize("name", NAMES)
def test_comfyui_accepts_the_golden_graph(
    comfy_nodes: Any, pack: Any, example_files: None, name: str
) -> None:
    validation = execution.validate_prompt(str(uuid.uuid4()), golden(name), None)
    is_valid, error, _, node_errors = asyncio.run(validation)
    assert is_valid and not node_errors, (error, node_errors)


@pytest.mark.parametrize("name", [*GRAPH_ONLY, "lora_and_controlnet", "sam_cut_out"])
def test_without_the_files_nothing_runs(client: ComfyClient, name: str) -> None:
    """No output is left over whose job would end with success, but without a picture."""
    with pytest.raises(PromptError):
        client.queue(golden(name))
    assert not client.is_busy()


def quick(graph: Graph) -> Graph:
    """The graph with two steps, saving where the runner looks."""
    for node in graph.values():
        if node["class_type"] == "SaveImage":
            node["inputs"]["filename_prefix"] = "graph"
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = 2
    return graph


@pytest.mark.parametrize("name", NAMES)
def test_the_golden_graph_runs(
    runner: GraphRunner,  # noqa: F811
    example_files: None,
    name: str,
) -> None:
    """With a random model and two steps: pictures of the size asked for come out."""
    graph = quick(golden(name))
    sizes = [
        (node["inputs"]["height"], node["inputs"]["width"], 3)
        for node in graph.values()
        if node["class_type"] == "EmptyLatentImage"
    ]
    pictures = runner.pictures(graph)
    assert pictures
    for picture in pictures:
        assert picture.shape in (sizes or [picture.shape])
        assert len(np.unique(picture)) > 1


def test_the_strip_has_a_picture_for_every_alpha(
    runner: GraphRunner,  # noqa: F811
    example_files: None,
) -> None:
    graph = quick(golden("interpolation_strip"))
    (node,) = by_class(graph, "SubjectDiffusionInterpolate")
    pictures = runner.pictures(graph)
    assert len(pictures) == len(node["inputs"]["alphas"].split(","))
    assert not np.array_equal(pictures[0], pictures[-1])


@pytest.mark.parametrize(
    ("kind", "strength"),
    [("LoraLoader", "strength_model"), ("ControlNetApplyAdvanced", "strength")],
)
def test_lora_and_controlnet_reach_the_picture(
    runner: GraphRunner,  # noqa: F811
    example_files: None,
    kind: str,
    strength: str,
) -> None:
    picture = runner.run(quick(golden("lora_and_controlnet")))
    without = quick(golden("lora_and_controlnet"))
    (node,) = by_class(without, kind)
    node["inputs"][strength] = 0.0
    assert not np.array_equal(runner.run(without), picture)


def by_class(graph: Graph, kind: str) -> list[dict[str, Any]]:
    return [node for node in graph.values() if node["class_type"] == kind]
