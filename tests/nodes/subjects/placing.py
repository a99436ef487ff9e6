"""Subjects in pictures of 80 x 40 pixels, and where they stand."""

from __future__ import annotations

import torch
from subject_diffusion_pack.nodes.subjects.boxes import Box
from subject_diffusion_pack.nodes.subjects.subject import Subject, Subjects


def make_subject(*, mask: tuple[int, int, int, int] | None, box: Box | None = None) -> Subject:
    """A subject in a picture of 80 x 40 pixels (width x height); its mask is a rectangle."""
    masks = None
    if mask is not None:
        masks = torch.zeros(1, 40, 80)
        masks[:, mask[1] : mask[3], mask[0] : mask[2]] = 1
    return Subject(
        name="Subject 1",
        images=torch.rand(1, 40, 80, 3),
        masks=masks,
        label="dog",
        box=box,
        strength=1.0,
    )


def edges(subjects: Subjects, width: int = 1, height: int = 1) -> list[tuple[float, ...]]:
    """Every subject's box in fractions of a picture of width x height pixels."""
    boxes = [subject.box for subject in subjects]
    assert None not in boxes
    return [
        box.to_relative(width, height, subject.name).edges
        for box, subject in zip(boxes, subjects, strict=True)
    ]
