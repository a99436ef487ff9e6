"""Boxes drawn with ComfyUI's own node, where the version has it."""

from __future__ import annotations

from typing import Any

import pytest
from host_models import Host
from test_nodes import make_subject


def test_drawn_boxes_are_the_subjects(host: Host, comfy_nodes: Any) -> None:
    node = comfy_nodes.NODE_CLASS_MAPPINGS.get("CreateBoundingBoxes")
    if node is None:
        pytest.skip("this ComfyUI has no Create Bounding Boxes")
    drawn = [
        {"x": 64, "y": 32, "width": 128, "height": 96, "metadata": {}},
        {"x": 256, "y": 0, "width": 256, "height": 512, "metadata": {}},
    ]
    boxes = node.execute(512, 512, editor_state=drawn).args[1]
    subjects = make_subject(host), make_subject(host)
    layout = host.layout_node.SubjectDiffusionLayout.execute
    made = layout(subjects, 512, 512, boxes=boxes).args[0]
    assert [subject.place.edges for subject in made] == [
        (0.125, 0.0625, 0.375, 0.25),
        (0.5, 0.0, 1.0, 1.0),
    ]
