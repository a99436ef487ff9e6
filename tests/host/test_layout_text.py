"""The `layout` input: JSON with a box and a strength per subject."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import logging
from typing import Any

import numpy as np
import pytest
import torch
from host_models import Host
from PIL import Image

LAYOUT = {"version": 1, "subjects": [{"box": [0.1, 0.2, 0.5, 0.9], "strength": 0.5}, None]}


def subjects(host: Host, *boxes: str) -> tuple[Any, ...]:
    """Subjects of strength 0.8 with the given boxes of their own."""
    made: tuple[Any, ...] = ()
    for box in boxes:
        image = torch.rand(1, 8, 8, 3, generator=torch.Generator().manual_seed(len(made)))
        (made,) = host.subject_node.SubjectDiffusionSubject.execute(
            image, "dog", box, 0.8, None, made
        ).args
    return made


def layout(host: Host, given: tuple[Any, ...], text: str, *, mode: str = "given") -> Any:
    return host.layout_node.SubjectDiffusionLayout.execute(given, 128, 64, mode, 3, None, text).args


def test_nothing_written_is_the_node_without_it(host: Host) -> None:
    given = subjects(host, "0.1,0.1,0.4,0.4", '{"x": 64, "y": 0, "width": 32, "height": 32}')
    plain = host.layout_node.SubjectDiffusionLayout.execute(given, 128, 64, "given", 3).args
    for text in ("", "  \n", '{"version": 1, "subjects": []}', '{"subjects": [null, {}]}'):
        placed, preview = layout(host, given, text)
        assert [entry.box for entry in placed] == [entry.box for entry in plain[0]]
        assert [entry.strength for entry in placed] == [0.8, 0.8]
        assert torch.equal(preview, plain[1])


def test_box_takes_the_place_and_strength_multiplies(host: Host) -> None:
    given = subjects(host, "0.6,0.6,0.9,0.9", "0.5,0.1,0.9,0.5")
    placed, _ = layout(host, given, json.dumps(LAYOUT))
    assert [entry.box.edges for entry in placed] == [(0.1, 0.2, 0.5, 0.9), (0.5, 0.1, 0.9, 0.5)]
    assert [entry.strength for entry in placed] == [pytest.approx(0.4), 0.8]


def test_boxes_from_another_node_give_way(host: Host) -> None:
    """What is drawn on the node itself counts most."""
    given = subjects(host, "0.6,0.6,0.9,0.9", "")
    boxes = [[0.0, 0.0, 0.3, 0.3], [0.4, 0.4, 0.7, 0.7]]
    execute = host.layout_node.SubjectDiffusionLayout.execute
    placed, _ = execute(given, 128, 64, "given", 0, boxes, json.dumps(LAYOUT)).args
    assert [entry.box.edges for entry in placed] == [(0.1, 0.2, 0.5, 0.9), (0.4, 0.4, 0.7, 0.7)]


def test_a_box_takes_the_place_of_a_region_too(host: Host) -> None:
    (subject,) = subjects(host, "0.5,0.5,0.9,0.9")
    subject = dataclasses.replace(subject, region=torch.ones(4, 8))
    (kept,), _ = layout(host, (subject,), '{"subjects": [{"strength": 0.5}]}')
    (drawn,), _ = layout(host, (subject,), json.dumps(LAYOUT))
    assert kept.region is subject.region and drawn.region is None


def test_start_and_end_narrow_the_subjects_own(host: Host) -> None:
    (subject,) = subjects(host, "0.1,0.1,0.4,0.4")
    subject = dataclasses.replace(subject, start_percent=0.3, end_percent=0.9)
    (wider,), _ = layout(host, (subject,), '{"subjects": [{"start": 0.1, "end": 1}]}')
    assert (wider.start_percent, wider.end_percent) == (0.3, 0.9)
    (narrower,), _ = layout(host, (subject,), '{"subjects": [{"start": 0.5, "end": 0.6}]}')
    assert (narrower.start_percent, narrower.end_percent) == (0.5, 0.6)


def test_subjects_without_a_box_get_theirs(host: Host) -> None:
    """Also where the mode would draw one: what was drawn by hand stays, the others keep away."""
    placed, _ = layout(host, subjects(host, "", ""), json.dumps(LAYOUT), mode="random")
    assert placed[0].box.edges == (0.1, 0.2, 0.5, 0.9)
    assert host.placement.overlap(placed[0].box.edges, placed[1].box.edges) < 0.5


def test_the_editor_is_told_what_was_done(host: Host) -> None:
    """Also where only the server knows: other nodes' pictures, places at random."""
    given = subjects(host, "0.1,0.1,0.4,0.4", "")
    out = host.layout_node.SubjectDiffusionLayout.execute(given, 128, 64, "random", 3)
    (report,) = out.ui["subject_diffusion_layout"]
    assert (report["width"], report["height"]) == (128, 64)
    boxes = [tuple(entry["box"]) for entry in report["subjects"]]
    assert boxes == [entry.box.edges for entry in out.args[0]]
    address = report["subjects"][0]["thumbnail"]
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
        pixels = np.asarray(picture.convert("RGB")) / 255
    assert np.allclose(pixels, given[0].images[0].numpy(), atol=0.003)


def test_more_entries_than_subjects_warn(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        (placed,), _ = layout(host, subjects(host, ""), json.dumps(LAYOUT))
    assert placed.box.edges == (0.1, 0.2, 0.5, 0.9)
    assert "layout: expected at most 1 entries, one per subject, got 2." in caplog.text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("on the left", r"^layout: expected JSON such as .*does not parse .*Correct it"),
        ("[" * 100_000, r"^layout: expected JSON such as .*does not parse .*Correct it"),
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
        ('{"subjects": [{"strength": "1"}]}', r"Subject 1: expected `strength` in 0\.\.2, got"),
    ],
)
def test_bad_text_gets_a_sentence(host: Host, text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        layout(host, subjects(host, "", ""), text)
