"""The layout as text: JSON with a box and a strength per subject."""

from __future__ import annotations

import dataclasses
import json
import logging

import pytest
import torch
from placing import edges
from subject_diffusion_pack.nodes.subjects.boxes import parse_box
from subject_diffusion_pack.nodes.subjects.layout_constants import CONSTANTS
from subject_diffusion_pack.nodes.subjects.layout_text import apply_layout, parse_layout
from subject_diffusion_pack.nodes.subjects.subject import Subject, Subjects, subject_name
from subject_diffusion_pack.subject_diffusion_core.pictures import SUBJECT_THRESHOLD
from subject_diffusion_pack.subject_diffusion_core.schema import NUM_SUBJECTS, STRENGTH

LAYOUT = {"version": 1, "subjects": [{"box": [0.1, 0.2, 0.5, 0.9], "strength": 0.5}, None]}


def subjects(*boxes: str) -> Subjects:
    """Subjects of strength 0.8 with the given boxes of their own."""
    names = [subject_name(index) for index in range(len(boxes))]
    return tuple(
        Subject(
            name=name,
            images=torch.rand(1, 8, 8, 3),
            masks=None,
            label="dog",
            box=parse_box(box, name),
            strength=0.8,
        )
        for name, box in zip(names, boxes, strict=True)
    )


def layout(given: Subjects, text: str) -> Subjects:
    return apply_layout(given, parse_layout(text))


def test_box_takes_the_place_and_strength_multiplies() -> None:
    given = subjects("0.6,0.6,0.9,0.9", "0.5,0.1,0.9,0.5")
    placed = layout(given, json.dumps(LAYOUT))
    assert edges(placed) == [(0.1, 0.2, 0.5, 0.9), (0.5, 0.1, 0.9, 0.5)]
    assert [entry.strength for entry in placed] == [pytest.approx(0.4), 0.8]


def test_a_box_takes_the_place_of_a_region_too() -> None:
    (subject,) = subjects("0.5,0.5,0.9,0.9")
    subject = dataclasses.replace(subject, region=torch.ones(4, 8))
    (kept,) = layout((subject,), '{"subjects": [{"strength": 0.5}]}')
    (drawn,) = layout((subject,), json.dumps(LAYOUT))
    assert kept.region is subject.region and drawn.region is None


def test_start_and_end_narrow_the_subjects_own() -> None:
    (subject,) = subjects("0.1,0.1,0.4,0.4")
    subject = dataclasses.replace(subject, start_percent=0.3, end_percent=0.9)
    (wider,) = layout((subject,), '{"subjects": [{"start": 0.1, "end": 1}]}')
    assert (wider.start_percent, wider.end_percent) == (0.3, 0.9)
    (narrower,) = layout((subject,), '{"subjects": [{"start": 0.5, "end": 0.6}]}')
    assert (narrower.start_percent, narrower.end_percent) == (0.5, 0.6)


def test_more_entries_than_subjects_warn(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        (placed,) = layout(subjects(""), json.dumps(LAYOUT))
    assert edges((placed,)) == [(0.1, 0.2, 0.5, 0.9)]
    assert "layout: expected at most 1 entries, one per subject, got 2." in caplog.text


@pytest.mark.parametrize("text", ["", " ", "null", "None", None])
def test_nothing_said(text: str | None) -> None:
    assert parse_layout(text) == ()


def test_an_object_is_read_as_its_text() -> None:
    """Through the API ComfyUI makes Python's text of an object."""
    wanted = parse_layout(json.dumps(LAYOUT))
    assert parse_layout(LAYOUT) == parse_layout(str(LAYOUT)) == wanted
    assert wanted[0].box is not None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("on the left", r"^layout: expected JSON such as .*does not parse .*Correct it"),
        ("[" * 40_000, r"^layout: expected JSON such as .*does not parse .*Correct it"),
        ("9" * 5000, r"^layout: expected JSON such as .*Correct it|Write an object"),
        ("[[0, 0, 1, 1]]", r"^layout: expected JSON such as .* got \[\[0, 0, 1, 1\]\]\. Write an"),
        ('{"version": 1}', r"^layout: .* Write an object with a list `subjects`"),
        ('{"subjects": {}}', r"^layout: .* Write an object with a list `subjects`"),
        ('{"version": "1", "subjects": []}', r'^layout: expected version 1, got "1"\.'),
        ('{"version": true, "subjects": []}', r"^layout: expected version 1, got true\."),
        ('{"subjects": [], "x": 1}', r"^layout: expected only version, subjects, got 'x'\."),
        ('{"subjects": [3]}', r"^layout, Subject 1: expected an object such as .* got 3\."),
        (
            '{"subjects": [null, {"boxx": 1}]}',
            r"^layout, Subject 2: expected only box, .*'boxx'",
        ),
        ('{"subjects": [{"box": [0, 0, 1]}]}', r"Subject 1's box: expected \[x1, y1, x2, y2\]"),
        ('{"subjects": [{"box": [0, 0, 1, "1"]}]}', r"Subject 1's box: expected \[x1, y1, x2, y2"),
        ('{"subjects": [{"box": [0, 0, 1, NaN]}]}', r"Subject 1's box: expected \[x1, y1, x2, y2"),
        ('{"subjects": [{"box": [0.5, 0, 0.5, 1]}]}', r"Subject 1's box: expected x1 < x2"),
        (
            '{"subjects": [{"box": [0, 0, 1, 2]}]}',
            r"Subject 1's box: expected numbers inside 0\.\.",
        ),
        ('{"subjects": [{"strength": 3}]}', r"Subject 1: expected `strength` in 0\.\.2, got 3\."),
        ('{"subjects": [{"end": 1.5}]}', r"Subject 1: expected `end` in 0\.\.1, got 1\.5\."),
        (
            '{"subjects": [{"' + "b" * 40_000 + '": 1}]}',
            r"Subject 1: expected only box, .*b\.\.\.'",
        ),
        ('{"subjects": [{"strength": 1e999}]}', r"Subject 1: expected `strength` in 0\.\.2, got"),
        ('{"subjects": [{"strength": 1' + "0" * 400 + "}]}", r"expected `strength` in 0\.\.2, got"),
        ("x" * 10**7, r"^layout: expected at most 50000 characters, got 10000000\."),
        ("{1, 2}", r"^layout: expected JSON such as .* got \{1, 2\}|got set"),
        ('{"subjects": [{"strength": "1"}]}', r"Subject 1: expected `strength` in 0\.\.2, got"),
    ],
    ids=lambda value: value[:40],
)
def test_bad_text_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        layout(subjects("", ""), text)
    assert len(str(error.value)) < 500


def test_the_editor_and_the_schema_have_the_same_limits() -> None:
    assert CONSTANTS.mask_threshold == SUBJECT_THRESHOLD
    assert CONSTANTS.longest_chain == NUM_SUBJECTS.high
    assert CONSTANTS.largest_strength <= STRENGTH.high
