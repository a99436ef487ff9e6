"""Layout: its inputs together, and what the editor in the browser is told."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
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


def test_boxes_from_another_node_give_way(host: Host) -> None:
    """What is drawn on the node itself counts most."""
    given = subjects(host, "0.6,0.6,0.9,0.9", "")
    boxes = [[0.0, 0.0, 0.3, 0.3], [0.4, 0.4, 0.7, 0.7]]
    execute = host.layout_node.SubjectDiffusionLayout.execute
    placed, _ = execute(given, 128, 64, "given", 0, boxes, json.dumps(LAYOUT)).args
    assert [entry.box.edges for entry in placed] == [(0.1, 0.2, 0.5, 0.9), (0.4, 0.4, 0.7, 0.7)]


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
