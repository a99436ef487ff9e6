"""Every example workflow in the real front end: it loads, exports its golden graph, and runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_end import FrontEnd
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.stem for path in (ROOT / "example_workflows").glob("*.json"))


def read_json(*parts: str) -> Any:
    return json.loads(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_front_end_exports_the_golden_graph(front_end: FrontEnd, name: str) -> None:
    front_end.load(read_json("example_workflows", f"{name}.json"))
    front_end.screenshot(name)
    assert front_end.export() == read_json("tests", "golden", f"{name}.json")


def test_an_example_runs_from_the_page(front_end: FrontEnd) -> None:
    workflow = read_json("example_workflows", "one_subject.json")
    (save,) = (node["id"] for node in workflow["nodes"] if node["type"] == "SaveImage")
    front_end.load(workflow)
    front_end.run()
    (content,) = front_end.images_of(save)
    pixels = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert pixels.shape == (128, 128, 3)
    assert len(np.unique(pixels)) > 20
    front_end.screenshot("one_subject run")
