"""One box in any of the forms that people and other nodes write."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from subject_diffusion_pack.nodes.subjects.boxes import parse_box


@pytest.mark.parametrize(
    ("value", "edges", "unit"),
    [
        ("0.1,0.2,0.5,0.9", (0.1, 0.2, 0.5, 0.9), "relative"),
        (" 0.1 0.2; 0.5 , 0.9 ", (0.1, 0.2, 0.5, 0.9), "relative"),
        ("[0.1, 0.2, 0.5, 0.9]", (0.1, 0.2, 0.5, 0.9), "relative"),
        ("[[[0, 0, 1, 1]]]", (0, 0, 1, 1), "relative"),
        ([[0.1, 0.2, 0.5, 0.9]], (0.1, 0.2, 0.5, 0.9), "relative"),
        ('{"x1": 0, "y1": 0.5, "x2": 1, "y2": 1}', (0, 0.5, 1, 1), "relative"),
        ('[[{"x": 8, "y": 16, "width": 32, "height": 64}]]', (8, 16, 40, 80), "pixels"),
        ({"x": 0, "y": 0, "width": 1, "height": 1}, (0, 0, 1, 1), "pixels"),
        ("{'x': 0, 'y': 0, 'width': 1, 'height': 1}", (0, 0, 1, 1), "pixels"),
        ((0.25, 0.25, 0.5, 1), (0.25, 0.25, 0.5, 1), "relative"),
        (torch.tensor([[0.25, 0.25, 0.5, 1]]), (0.25, 0.25, 0.5, 1), "relative"),
        (torch.eye(4)[None, :, 1:3].repeat(1, 1, 4), (0, 0.25, 1, 0.75), "relative"),
    ],
)
def test_box_formats(value: Any, edges: tuple[float, ...], unit: str) -> None:
    box = parse_box(value, "Subject 1")
    assert box is not None
    assert box.edges == edges
    assert box.unit == unit


@pytest.mark.parametrize("value", ["", "  ", None, "[]", [], "None", "null"])
def test_no_box(value: Any) -> None:
    assert parse_box(value, "Subject 1") is None


@pytest.mark.parametrize(
    "value", ["1,2,3", '{"x": 1}', "nan,0,1,1", "[[0,0,1,1],[0,0,1,1]]", '{"x1":"a"}', "null,0,1,1"]
)
def test_what_is_no_box(value: str) -> None:
    with pytest.raises(ValueError, match="Subject 3's box: expected"):
        parse_box(value, "Subject 3")


def test_pixels_become_fractions() -> None:
    box = parse_box({"x": 64, "y": 0, "width": 64, "height": 32}, "Subject 1")
    assert box is not None
    assert box.to_relative(256, 64, "Subject 1").edges == (0.25, 0.0, 0.5, 0.5)
