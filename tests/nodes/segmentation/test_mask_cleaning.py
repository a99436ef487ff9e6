"""Loose pieces and holes of a mask."""

from __future__ import annotations

import torch
from subject_diffusion_pack.nodes.segmentation.mask_cleaning import (
    fill_holes,
    largest_component,
    pieces_at,
)

RING = """
.......#
.####...
.#..#..#
.#..#..#
.####..#
....##..
"""


def parse(drawing: str) -> torch.Tensor:
    return torch.tensor([[cell == "#" for cell in row] for row in drawing.split()])


def test_largest_piece() -> None:
    """The ring with its tail; the corner at the top right and the three cells at the edge go."""
    kept = largest_component(parse(RING))
    wanted = parse(RING)
    wanted[:, 7] = False
    assert torch.equal(kept, wanted)


def test_pieces_hang_together_over_corners() -> None:
    diagonal = torch.eye(5, dtype=torch.bool)
    assert torch.equal(largest_component(diagonal), diagonal)


def test_holes() -> None:
    filled = fill_holes(parse(RING))
    wanted = parse(RING)
    wanted[2:4, 2:4] = True
    assert torch.equal(filled, wanted)
    open_ring = parse(RING)
    open_ring[1, 2] = False
    assert torch.equal(fill_holes(open_ring), open_ring)


def test_an_empty_mask_stays_empty() -> None:
    empty = torch.zeros(4, 5, dtype=torch.bool)
    assert not largest_component(empty).any()
    assert not fill_holes(empty).any()


def test_pieces_that_are_marked() -> None:
    """Of the ring and the two loose cells, the one that a mark is on; a mark beside adds none."""
    mask = parse(RING)
    marks = torch.zeros_like(mask)
    marks[0, 7] = marks[0, 0] = True
    assert pieces_at(mask, marks).nonzero().tolist() == [[0, 7]]
    assert not pieces_at(mask, torch.zeros_like(mask)).any()
