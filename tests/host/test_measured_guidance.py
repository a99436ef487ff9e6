"""What an adapter's file says of guidance: on the nodes, and in the pack's own graphs."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from graphs import good_graph, make_pictures, node
from test_blueprint import PERSONALISE, inner_graph
from test_node_warnings import by_class, run_and_listen

from devtools.server import ComfyServer
from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.measured_guidance import MeasuredGuidance, measured_guidance

ROOT = Path(__file__).resolve().parents[2]
ADAPTER = ROOT / "weights" / "tiny_adapter.safetensors"
GUIDER, TINY_LOADER = "SubjectDiffusionGuider", "SubjectDiffusionTinyLoader"
GOLDEN = sorted(path.stem for path in (ROOT / "tests" / "golden").glob("*.json"))


@pytest.fixture(scope="module")
def measured() -> MeasuredGuidance:
    found = measured_guidance(checkpoint.load(ADAPTER).config.provenance)
    assert found is not None
    return found


def told(server: ComfyServer, graph: dict[str, Any], **scales: float) -> dict[str, list[str]]:
    """Node id -> its sentences, of a run with these guidance scales."""
    make_pictures(server.base / "input")
    graph["guider"]["inputs"] |= scales
    return asyncio.run(run_and_listen(server, graph))


def own_file(server: ComfyServer, provenance: dict[str, Any], name: str) -> dict[str, Any]:
    """A graph with the pack's adapter in a file that says this."""
    path = server.base / "models" / "subject_diffusion" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(ADAPTER, path)
    checkpoint.save_provenance(path, provenance)
    graph = good_graph()
    graph["adapter"] = node("SubjectDiffusionAdapterLoader", adapter_name=name)
    for name in ("apply", "encode"):
        graph[name]["inputs"]["adapter"] = ["adapter", 0]
    return graph


def test_the_guider_says_it_where_its_scales_were_left(
    server: ComfyServer, measured: MeasuredGuidance
) -> None:
    text, image = measured.text_guidance_scale, measured.image_guidance_scale
    sentence = (
        f"The adapter 'tiny_adapter.safetensors' was measured with text guidance {text:g} and "
        f"image guidance {image:g}; 3 and 1.5 are this node's defaults. To draw as it was "
        f"measured, set text_guidance_scale to {text:g} and image_guidance_scale to {image:g}."
    )
    left = {"text_guidance_scale": 3.0, "image_guidance_scale": 1.5}
    assert told(server, good_graph(), **left) == {"guider": [sentence]}
    assert told(server, good_graph(), **left | {"image_guidance_scale": 2.0}) == {}
    assert told(server, good_graph(), text_guidance_scale=text, image_guidance_scale=image) == {}


def test_a_file_that_was_measured_with_the_defaults(server: ComfyServer) -> None:
    settings = {"text_guidance_scale": 3, "image_guidance_scale": 1.5}
    graph = own_file(server, {"tinybench": {"settings": settings}}, "as_the_paper.safetensors")
    assert told(server, graph) == {
        "adapter": [
            "Subject-Diffusion for the small model; measured with text guidance 3 and image "
            "guidance 1.5"
        ]
    }


def test_a_file_that_says_nothing(server: ComfyServer) -> None:
    graph = own_file(server, {"tinybench": {"settings": "unknown"}}, "silent.safetensors")
    assert told(server, graph) == {"adapter": ["Subject-Diffusion for the small model"]}


@pytest.mark.parametrize("name", GOLDEN)
def test_examples_on_the_small_model_have_it_set(name: str, measured: MeasuredGuidance) -> None:
    """After new weights that were measured otherwise, the examples follow."""
    graph = json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text(encoding="utf-8"))
    guiders = by_class(graph, GUIDER) if by_class(graph, TINY_LOADER) else []
    assert name not in ("one_subject", "two_subjects") or guiders
    for inputs in (guider["inputs"] for guider in guiders):
        assert inputs["text_guidance_scale"] == measured.text_guidance_scale
        assert inputs["image_guidance_scale"] == measured.image_guidance_scale


def test_personalise_has_it_set(comfy_nodes: Any, pack: Any, measured: MeasuredGuidance) -> None:
    graph = inner_graph(PERSONALISE, comfy_nodes.NODE_CLASS_MAPPINGS, {})
    (guider,) = by_class(graph, GUIDER)
    assert guider["inputs"]["text_guidance_scale"] == measured.text_guidance_scale
    assert guider["inputs"]["image_guidance_scale"] == measured.image_guidance_scale
