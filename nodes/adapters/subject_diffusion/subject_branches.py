# Shapes: N slots, P patch tokens of a subject, C width of a patch token.
"""Encoded subjects to the slots of one guidance branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ...host.cond import BranchSubjects
from ...subjects.subject import Subject, require_relative_boxes
from ..adapter_types import LoadedAdapter
from ..vision import SubjectViews


class EncodedSubject(NamedTuple):
    """A subject and what the vision encoder says of its views."""

    subject: Subject
    views: SubjectViews


def build_branch(
    encoded: Sequence[EncodedSubject], adapter: LoadedAdapter, box_coordinates: bool = True
) -> BranchSubjects:
    """Every view fills a slot and has its share of the subject's strength.

    Empty slots are attended, too. So there are as many as beside so many subjects in training,
    whatever the number of views: a view given twice counts as once.
    """
    config = adapter.config
    boxes = require_relative_boxes([subject for subject, _ in encoded])
    slots = [(i, patch) for i, (_, views) in enumerate(encoded) for patch in views.patch_embeds]
    num_slots = len(slots) + max(config.num_subjects - len(encoded), 0) if slots else 0
    patch_embeds = torch.zeros(num_slots, config.num_patches, config.patch_dim)
    boxes_xyxy, valid = torch.zeros(num_slots, 4), torch.zeros(num_slots, dtype=torch.bool)
    strengths = torch.ones(num_slots)
    for slot, (index, patch) in enumerate(slots):
        subject, views = encoded[index]
        patch_embeds[slot] = patch
        boxes_xyxy[slot] = torch.tensor(boxes[index].edges)
        valid[slot] = True
        strengths[slot] = subject.strength / len(views.patch_embeds)
    return BranchSubjects(
        fingerprint=adapter.fingerprint,
        patch_embeds=patch_embeds,
        subject_boxes_xyxy=boxes_xyxy,
        subject_valid=valid,
        token_strengths=strengths,
        subject_regions=tuple(encoded[index].subject.region for index, _ in slots),
        box_coordinates=box_coordinates,
    )
