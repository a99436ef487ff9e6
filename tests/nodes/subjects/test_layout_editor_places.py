"""The editor in the browser shows the places that the server will draw, to the last bit."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from subject_diffusion_pack.nodes.subjects.boxes import parse_box
from subject_diffusion_pack.nodes.subjects.placement import place_subjects
from subject_diffusion_pack.nodes.subjects.subject import Subject

ROOT = Path(__file__).resolve().parents[3]
NODE = shutil.which("node")
SCRIPT = """
import { readFileSync } from "node:fs";
import { placesFor } from "./web/layout/placement.js";
const cases = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(cases.map((one) =>
  placesFor(one.subjects, one.mode, one.seed, one.width, one.height))));
"""
pytestmark = pytest.mark.skipif(NODE is None, reason="there is no Node.js")


def make_case(seed: int, mode: str) -> tuple[dict[str, Any], list[tuple[float, ...]]]:
    """One to seven subjects in pictures of some sizes, some with a box; and the server's places."""
    draw = random.Random(1000 + seed)
    width, height = draw.randrange(64, 1024, 8), draw.randrange(64, 1024, 8)
    subjects: tuple[Any, ...] = ()
    described = []
    for index in range(draw.randint(1, 7)):
        size = draw.randint(8, 60), draw.randint(8, 60)
        x1, y1 = draw.randint(0, size[0] - 2), draw.randint(0, size[1] - 2)
        edges = x1, y1, draw.randint(x1 + 1, size[0]), draw.randint(y1 + 1, size[1])
        mask = torch.zeros(1, size[1], size[0])
        mask[:, edges[1] : edges[3], edges[0] : edges[2]] = 1
        box = [0.1, 0.2, 0.45, 0.7] if draw.random() < 0.2 else None
        subjects += (
            Subject(
                name=f"Subject {index + 1}",
                images=torch.zeros(1, size[1], size[0], 3),
                masks=mask,
                label="dog",
                box=None if box is None else parse_box(box, "a subject"),
                strength=1.0,
            ),
        )
        content = {"size": size, "edges": edges, "masked": True}
        described.append({"box": box, "content": content})
    case = {"subjects": described, "mode": mode, "seed": seed, "width": width, "height": height}
    placed = place_subjects(subjects, mode, seed, width, height)
    return case, [subject.box.edges for subject in placed]


@pytest.mark.parametrize("mode", ["random", "reference"])
def test_the_editors_places_are_the_servers(mode: str) -> None:
    seeds = [*range(150), 2**31 - 1, 123456789]
    cases, wanted = zip(*(make_case(seed, mode) for seed in seeds), strict=True)
    command = [str(NODE), "--input-type=module", "--eval", SCRIPT]
    done = subprocess.run(
        command, cwd=ROOT, input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    found = [[tuple(box) for box in boxes] for boxes in json.loads(done.stdout)]
    assert found == list(wanted)
