"""The golden graphs are those that headless generation makes, whatever the nodes are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from devtools.jobs import GenerationSettings, Job, SubjectSpec
from devtools.workflows import generation_graph

ROOT = Path(__file__).resolve().parents[2]
SUBJECTS = ROOT / "assets" / "subjects"
LAWN = "on a plain background"
CASES = {
    "one_subject": (f"a photo of a crab {LAWN}", [("crab", (0.25, 0.3, 0.75, 0.8))]),
    "two_subjects": (
        f"a photo of a crab and a guitar {LAWN}",
        [("crab", (0.04, 0.34, 0.48, 0.78)), ("guitar", (0.52, 0.34, 0.96, 0.78))],
    ),
}


def expanded(graph: dict[str, Any], value: Any) -> Any:
    """A value with every link replaced by the node it comes from, so that ids do not matter."""
    if not isinstance(value, list):
        return value
    name, slot = value
    node = graph[name]
    inputs = {key: expanded(graph, item) for key, item in node["inputs"].items()}
    return (node["class_type"], inputs, slot)


def saved(graph: dict[str, Any]) -> Any:
    """The graph as seen from its picture on disk."""
    (name,) = (name for name, node in graph.items() if node["class_type"] == "SaveImage")
    return expanded(graph, [name, 0])


@pytest.mark.parametrize("name", CASES)
def test_golden_equals_headless(name: str) -> None:
    golden = json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text(encoding="utf-8"))
    prompt, subjects = CASES[name]
    specs = tuple(
        SubjectSpec(image=SUBJECTS / f"{label}.png", label=label, box_xyxy=box)
        for label, box in subjects
    )
    settings = GenerationSettings()
    job = Job(prompt=prompt, subjects=specs, seed=7, out=Path("out.png"), settings=settings)
    assert saved(golden) == saved(generation_graph(job, lambda path: path.name))
