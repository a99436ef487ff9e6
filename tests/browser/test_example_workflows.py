"""Every example workflow in the real front end: it loads, exports its golden graph, and runs."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_end import FrontEnd
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES, GOLDEN = ROOT / "example_workflows", ROOT / "tests" / "golden"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.json"))


def read_json(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def write_json(folder: Path, name: str, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_front_end_exports_the_golden_graph(
    front_end: FrontEnd, name: str, request: pytest.FixtureRequest
) -> None:
    workflow = read_json(EXAMPLES, name)
    front_end.load(workflow)
    front_end.screenshot(name)
    assert overlapping_nodes(front_end) == []
    if request.config.getoption("--update-examples"):
        write_json(EXAMPLES, name, front_end.save() | {"extra": workflow["extra"]})
        write_json(GOLDEN, name, front_end.export())
    assert front_end.export() == read_json(GOLDEN, name)
    front_end.load(front_end.save())
    assert front_end.export() == read_json(GOLDEN, name), "saved and loaded again"


def overlapping_nodes(front_end: FrontEnd) -> list[tuple[str, str]]:
    """As drawn: a file may hold sizes that are too small for the nodes of today."""
    return [
        (first, second)
        for (first, a), (second, b) in itertools.combinations(front_end.rectangles().items(), 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


def test_an_example_runs_from_the_page(front_end: FrontEnd) -> None:
    workflow = read_json(EXAMPLES, "one_subject")
    (save,) = (node["id"] for node in workflow["nodes"] if node["type"] == "SaveImage")
    front_end.load(workflow)
    front_end.run()
    (content,) = front_end.images_of(save)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert pixels.shape == (128, 128, 3)
    assert len(np.unique(pixels)) > 20
    front_end.screenshot("one_subject run")
