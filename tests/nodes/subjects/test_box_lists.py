"""Layout's `boxes`: whatever holds boxes, for all subjects in order."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from placing import edges, make_subject
from subject_diffusion_pack.nodes.subjects.box_lists import assign_boxes
from subject_diffusion_pack.nodes.subjects.boxes import Box
from subject_diffusion_pack.nodes.subjects.subject_warnings import canvas_warnings

FIRST, SECOND = (0.25, 0.125, 0.5, 1.0), (0.5, 0.0, 0.75, 0.5)
PIXELS = [
    {"x": 32, "y": 16, "width": 32, "height": 112},
    {"x": 64, "y": 0, "width": 32, "height": 64, "metadata": {"label": "cat"}},
]
CORNERS = [dict(zip(("x1", "y1", "x2", "y2"), box, strict=True)) for box in (FIRST, SECOND)]


def masks(*boxes: tuple[float, ...]) -> torch.Tensor:
    """(N, 16, 24): one rectangle each, in a size of its own."""
    drawn = torch.zeros(len(boxes), 16, 24)
    for mask, (x1, y1, x2, y2) in zip(drawn, boxes, strict=True):
        mask[round(y1 * 16) : round(y2 * 16), round(x1 * 24) : round(x2 * 24)] = 1
    return drawn


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value, value]
    return value


def placed(value: Any, count: int = 2, box: Box | None = None) -> list[tuple[float, ...]]:
    subjects = tuple(
        replace(make_subject(mask=None, box=box), name=f"Subject {i}") for i in range(1, count + 1)
    )
    return edges(assign_boxes(subjects, value), 128, 128)


@pytest.mark.parametrize(
    "value",
    [
        [FIRST, SECOND],
        [[FIRST, SECOND]],
        [list(FIRST), {"x": 64, "y": 0, "width": 32, "height": 64}],
        [*FIRST, *SECOND],
        PIXELS,
        [PIXELS],
        [[PIXELS[0]], [PIXELS[1]]],
        CORNERS,
        json.dumps([FIRST, SECOND]),
        json.dumps([PIXELS]),
        json.dumps(CORNERS),
        str(CORNERS),
        "0.25,0.125,0.5,1\n0.5 0 0.75 0.5",
        ["0.25,0.125,0.5,1", "[0.5, 0, 0.75, 0.5]"],
        torch.tensor([FIRST, SECOND]),
        masks(FIRST, SECOND),
        [masks(FIRST), masks(SECOND)[0]],
    ],
    ids=str,
)
def test_every_form(value: Any) -> None:
    assert placed(value) == [FIRST, SECOND]


@pytest.mark.parametrize(
    "value",
    [FIRST, PIXELS[0], [[PIXELS[0]]], CORNERS[0], "0.25,0.125,0.5,1", masks(FIRST)],
    ids=str,
)
def test_one_box(value: Any) -> None:
    assert placed(value, count=1) == [FIRST]


@pytest.mark.parametrize(
    "value", [None, "", "  ", "None", "null", [None, None], "[null, null]"], ids=str
)
def test_nothing_given_keeps_what_is_written(value: Any) -> None:
    box = Box(x1=0.0, y1=0.0, x2=1.0, y2=1.0)
    assert placed(value, box=box) == [(0.0, 0.0, 1.0, 1.0)] * 2


def test_they_replace_written_boxes() -> None:
    box = Box(x1=0.0, y1=0.0, x2=1.0, y2=1.0)
    assert placed([None, SECOND], box=box) == [(0.0, 0.0, 1.0, 1.0), SECOND]


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([FIRST], r"^boxes: expected 2, one for each subject in order, got 1\. Give as many"),
        ([FIRST] * 3, r"^boxes: expected 2, one for each subject in order, got 3\."),
        ([], r"^boxes: expected 2, .* got 0\. Draw a box for each, in this order: dog, dog;"),
        (torch.rand(1, 16, 24, 3), r"^boxes: expected masks of shape .*, got \(1, 16, 24, 3\)"),
        (torch.rand(1, 16, 24, 4), r"^boxes: expected at most 64 boxes, got a tensor of shape"),
        (nested(100_000), r"^boxes: expected .*, got lists nested more than 8 deep"),
        ("[" * 40_000, r"^boxes: expected .*, got JSON that does not parse \(nested"),
        ("[" + "9" * 5000 + ", 0, 1, 1]", r"^boxes: expected .*, got JSON that does not parse"),
        ([[10**400, 0, 1, 1], FIRST], r"^Subject 1's box: expected four numbers|^boxes: expected"),
        ([[0, 0, 1000, 1000], FIRST], r"^Subject 1's box: .* have to be divided by 1000\."),
        ("x" * 10**7, r"^boxes: expected at most 50000 characters, got 10000000\."),
        ("x" * 40_000, r"^boxes: expected four numbers in 0\.\.1 .*, got 'x+\.\.\.'\."),
        (masks(FIRST), r"^boxes: expected 2, .* got 1\."),
        ("0,0,1,1,0.5", r"^boxes: expected four numbers a box .*, got 5 numbers\."),
        ("[[0,0,1,1", r"^boxes: expected .*, got JSON that does not parse"),
        ("left, right", r"^boxes: expected four numbers in 0\.\.1 .*, got 'left'\."),
        (7, r"^boxes: expected boxes as text, lists, dictionaries or masks, got int\."),
        ([FIRST, {"x": 1}], r"^Subject 2's box: expected four numbers in 0\.\.1"),
        (
            [FIRST, (0, 0, 2, 1)],
            r"^Subject 2's box: expected numbers inside 0\.\.1, got 0, 0, 2, 1",
        ),
        ([PIXELS[0], {**PIXELS[1], "x": 100}], r"^Subject 2's box: .* inside the 128x128 picture"),
        (torch.zeros(2, 9, 9), r"^Subject 1's box: expected 1 where .* any value above 0\.5"),
    ],
    ids=lambda value: str(type(value)) if not isinstance(value, str) else value[:40],
)
def test_what_is_refused(value: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        placed(value)
    assert len(str(error.value)) < 500


def test_boxes_of_a_smaller_canvas() -> None:
    """Only a warning: small boxes may well be meant."""
    subjects = tuple(replace(make_subject(mask=None), name=f"Subject {i}") for i in (1, 2))
    assigned = assign_boxes(subjects, PIXELS)  # of 128 x 128 pixels
    (sentence,) = canvas_warnings(assigned, 512, 768)
    assert sentence.startswith("boxes: all lie in the upper left 96x128 pixels of the 512x768 pict")
    assert canvas_warnings(assigned, 128, 128) == []
    assert canvas_warnings(assign_boxes(subjects, [FIRST, SECOND]), 512, 768) == []
