"""The editor in the browser shows the places that the server will draw, to the last bit."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from host_models import Host

from devtools.server import LOOPBACK, ComfyServer

ROOT = Path(__file__).resolve().parents[2]
NODE = shutil.which("node")
# (seed, number of subjects, width, height) -> their random places. Saved workflows rely on them.
FROZEN = [
    (
        (0, 1, 512, 512),
        [(0.16675767462809588, 0.17454041294949202, 0.9467475078143675, 0.7595327878391958)],
    ),
    (
        (1, 2, 512, 768),
        [
            (0.5466500948075994, 0.6282295600247219, 0.9015847982768237, 0.805696911759334),
            (0.3040396215272865, 0.33372675465160595, 0.6903575682195361, 0.591272052446439),
        ],
    ),
    (
        (2**31 - 1, 3, 128, 64),
        [
            (0.6808490127657463, 0.14715951683919795, 0.8478584441102166, 0.3976736638559033),
            (0.4821102394351321, 0.4718180536244011, 0.6972401270162549, 0.9020778287866469),
            (0.1, 0.2, 0.45, 0.7),
        ],
    ),
]
FROZEN_EDGES = [(20, 10, 60, 40), (0, 0, 40, 40), (10, 5, 30, 35)]  # in pictures of 80 x 40
GIVEN = [0.1, 0.2, 0.45, 0.7]


def make_subject(
    host: Host, index: int, size: tuple[int, int], edges: tuple[int, ...], box: list[float] | None
) -> tuple[Any, dict[str, Any]]:
    """A subject, and how the editor describes it."""
    x1, y1, x2, y2 = edges
    mask = torch.zeros(1, size[1], size[0])
    mask[:, y1:y2, x1:x2] = 1
    subject = host.subject.Subject(
        name=f"Subject {index + 1}",
        images=torch.zeros(1, size[1], size[0], 3),
        masks=mask,
        label="dog",
        box=None if box is None else host.boxes.parse_box(box, "a subject"),
        strength=1.0,
    )
    return subject, {"box": box, "content": {"size": size, "edges": edges, "masked": True}}


def make_case(host: Host, seed: int, mode: str) -> tuple[dict[str, Any], list[tuple[float, ...]]]:
    """One to seven subjects in pictures of some sizes, some with a box; and the run's places."""
    draw = random.Random(1000 + seed)
    width, height = draw.randrange(64, 1024, 8), draw.randrange(64, 1024, 8)
    made = []
    for index in range(draw.randint(1, 7)):
        size = draw.randint(8, 60), draw.randint(8, 60)
        x1, y1 = draw.randint(0, size[0] - 2), draw.randint(0, size[1] - 2)
        edges = x1, y1, draw.randint(x1 + 1, size[0]), draw.randint(y1 + 1, size[1])
        box = GIVEN if draw.random() < 0.2 else None
        made.append(make_subject(host, index, size, edges, box))
    subjects, described = zip(*made, strict=True)
    question = {"subjects": described, "mode": mode, "seed": seed, "width": width, "height": height}
    placed = host.placement.place_subjects(subjects, mode, seed, width, height)
    return question, [subject.box.edges for subject in placed]


def ask(server: ComfyServer, question: Any) -> Any:
    """As the page does."""
    request = urllib.request.Request(
        f"http://{LOOPBACK}:{server.port}/api/subject_diffusion/places",
        data=json.dumps(question).encode(),
    )
    with urllib.request.urlopen(request) as response:
        return json.load(response)


@pytest.mark.parametrize("mode", ["random", "reference"])
def test_the_editors_places_are_the_runs(host: Host, server: ComfyServer, mode: str) -> None:
    for seed in [*range(150), 2**31 - 1, 123456789]:
        question, wanted = make_case(host, seed, mode)
        assert [tuple(box) for box in ask(server, question)] == wanted


@pytest.mark.parametrize(("options", "wanted"), FROZEN)
def test_random_places_are_frozen(
    host: Host, options: tuple[int, ...], wanted: list[tuple[float, ...]]
) -> None:
    seed, count, width, height = options
    subjects = tuple(
        make_subject(host, i, (80, 40), FROZEN_EDGES[i], GIVEN if i == 2 else None)[0]
        for i in range(count)
    )
    placed = host.placement.place_subjects(subjects, "random", seed, width, height)
    assert [subject.box.edges for subject in placed] == wanted


def test_what_only_the_run_knows(host: Host) -> None:
    """A picture that is not known leaves its place open, and at random all places after it."""
    question, _ = make_case(host, 3, "random")
    content = question["subjects"][0]["content"]
    known, unknown = {"box": None, "content": content}, {"box": None, "content": None}
    question["subjects"] = [known, unknown, known, {"box": GIVEN, "content": None}]
    first, *others = host.layout_places.answer_question(question)
    assert first is not None
    assert others == [None, None, tuple(GIVEN)]
    question["mode"] = "reference"
    first, second, third, _ = host.layout_places.answer_question(question)
    assert first == third is not None and second is None
    whole = {"box": None, "content": {**content, "masked": False}}
    assert host.layout_places.answer_question({**question, "subjects": [whole]}) == [None]


@pytest.mark.parametrize(
    "change",
    [
        {"subjects": None},
        {"subjects": [{}]},
        {"subjects": [{"box": [0, 0, 1], "content": None}]},
        {"subjects": [{"box": [0, 0, 0, 1], "content": None}]},
        {"subjects": [{"box": None, "content": {"size": [0, 4], "edges": [0, 0, 1, 1]}}]},
        {"subjects": [{"box": None, "content": None}] * 65},
        {"mode": "somewhere"},
        {"seed": 0.5},
        {"width": None},
        {"height": -8},
    ],
)
def test_bad_questions(host: Host, change: dict[str, Any]) -> None:
    question, _ = make_case(host, 3, "random")
    with pytest.raises(ValueError, match=r"^places: expected "):
        host.layout_places.answer_question({**question, **change})


def test_a_bad_question_is_refused_with_a_sentence(server: ComfyServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(server, ["no question"])
    assert refused.value.code == 400
    assert json.load(refused.value)["error"].startswith("places: expected the layout editor's")


@pytest.mark.skipif(NODE is None, reason="there is no Node.js")
def test_constants_are_the_editors(host: Host) -> None:
    """What Python reads from the script is what the script exports."""
    script = (
        'import constants from "./web/layout/constants.js";console.log(JSON.stringify(constants))'
    )
    command = [str(NODE), "--input-type=module", "--eval", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    constants = host.layout_constants.CONSTANTS
    assert json.loads(done.stdout) == dataclasses.asdict(constants)


def test_constants_are_what_they_were(host: Host) -> None:
    """Saved layouts, warnings and previews rely on them."""
    assert host.layout_preview.COLOURS[:2] == ((255, 159, 64), (75, 192, 192))
    assert host.layout_preview.COLOURS[2:] == ((153, 102, 255), (255, 99, 132), (255, 205, 86))
    warnings = host.subject_warnings
    limits = warnings.SMALLEST_AREA, warnings.LARGEST_AREA, warnings.MAX_IOU
    assert limits == (0.05, 0.70, 0.8)
    assert (host.layout_text.VERSION, host.layout_text.MAX_STRENGTH) == (1, 2.0)
    assert host.layout_text.Place() == host.layout_text.Place(strength=1.0, start=0.0, end=1.0)
