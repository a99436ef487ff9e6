# Shapes: V views of one subject, H and W the picture's size.
"""SUBJECTS: what travels between the Subject, Layout and Encode nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ...subject_diffusion_core.errors import shown
from ...subject_diffusion_core.pictures import read_masks
from ...subject_diffusion_core.schema import (
    LONGEST_LABEL,
    NUM_SUBJECTS,
    PERCENT,
    STRENGTH,
    printed,
    require_text,
)
from .boxes import Box

EMBEDDING = "embedding:"  # ComfyUI reads a file of this name in its place
# What an image encoder says of a subject: name -> (V, ...), a row for every view.
Embeds = Mapping[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectEmbeds:
    """What an image encoder said of a subject, kept with it.

    Attributes:
        tensors: of every picture of the subject; their names are those of the adapter's family.
        encoder_hash: which encoder that was; empty if they do not outlive the run.
        reference_size: side of the pictures that it saw, in pixels.
    """

    tensors: Embeds
    encoder_hash: str
    reference_size: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """One thing to personalise.

    Attributes:
        name: how errors call it; people count from 1: "Subject 1".
        images: (V, H, W, 3) in 0..1, the views of the subject.
        masks: (V, H, W) in 0..1, 1 = subject; None = the whole picture.
        label: what it is, for example "dog".
        box: where it shall stand, or None if no box was given yet.
        strength: 0 removes the subject, 1 is the trained strength; see `STRENGTH`.
        start_percent, end_percent: the part of the sampling, 0..1, in which it takes part.
        region: (H, W) in 0..1 of the whole generated picture: where it acts, in place of the box's
            rectangle in the location mask; None = the box.
        layout_size: width and height in pixels of the picture that it was laid out for, or None.
        embeds: of the image encoder; None = Encode runs it. With them the pictures are only shown.
    """

    name: str
    images: torch.Tensor
    masks: torch.Tensor | None
    label: str
    box: Box | None
    strength: float
    start_percent: float = 0.0
    end_percent: float = 1.0
    region: torch.Tensor | None = None
    layout_size: tuple[int, int] | None = None
    embeds: SubjectEmbeds | None = None

    def __post_init__(self) -> None:
        STRENGTH.require(f"{self.name}'s strength", self.strength, "Write a number")
        PERCENT.require(f"{self.name}'s start_percent", self.start_percent, "Write a number")
        PERCENT.require(f"{self.name}'s end_percent", self.end_percent, "Write a number")

    @property
    def is_active(self) -> bool:
        """Whether it takes part: strength 0 or an empty range leaves it out."""
        return self.strength > 0.0 and self.start_percent < self.end_percent

    @property
    def place(self) -> Box:
        """Its box, of which `require_relative_boxes` has made sure."""
        assert self.box is not None and self.box.unit == "relative"
        return self.box


Subjects = tuple[Subject, ...]


def subject_name(index: int) -> str:
    """How errors call the subject at `index`: people count from 1."""
    return f"Subject {index + 1}"


def checked_label(label: str, owner: str) -> str:
    """The words of a label with single spaces between them."""
    require_text(f"{owner}'s label", label, LONGEST_LABEL)
    words = label.split()
    if not words:
        raise ValueError(
            f"{owner} has no label: expected one or a few words such as 'dog', got an empty text. "
            "Write in `label` what the picture shows."
        )
    if any(word.startswith(EMBEDDING) for word in words):
        raise ValueError(
            f"{owner}'s label: expected words such as 'dog', got the name of an embedding "
            f"({shown(label)}). Write what the picture shows, and the embedding into the prompt."
        )
    return " ".join(words)


def require_subjects(argument: str, subjects: object) -> None:
    """Only lists of subjects that other nodes hand over pass, and only as long as is allowed."""
    if not isinstance(subjects, list | tuple) or not all(
        isinstance(one, Subject) for one in subjects
    ):
        raise ValueError(
            f"{argument}: expected subjects of Subject, Layout or Load Subjects nodes, got "
            f"{printed(subjects)}. Connect one of these."
        )
    require_room(argument, len(subjects))


def require_room(argument: str, num_subjects: int) -> None:
    """No more subjects than `NUM_SUBJECTS` allows."""
    if num_subjects > NUM_SUBJECTS.high:
        raise ValueError(
            f"{argument}: expected at most {NUM_SUBJECTS.high:g} subjects, got {num_subjects}. "
            "Use fewer."
        )


def checked_region(region: torch.Tensor, owner: str) -> torch.Tensor:
    """A MASK of the generated picture, (H, W) or (1, H, W) -> (H, W) in 0..1."""
    if isinstance(region, torch.Tensor) and not bool(region.isfinite().all()):
        raise ValueError(
            f"{owner}'s region: expected numbers from 0 to 1, got NaN or infinity. Use another "
            "mask."
        )
    masks = read_masks(f"{owner}'s region", region)
    if masks.shape[0] != 1:
        raise ValueError(
            f"{owner}'s region: expected one mask of the generated picture, got {masks.shape[0]}. "
            "Pick one of them."
        )
    return masks[0].float().cpu()


def layout_size_of(subjects: Sequence[Subject]) -> tuple[int, int] | None:
    """Width and height of the picture that they were laid out for; None if they were not."""
    sizes = [subject.layout_size for subject in subjects if subject.layout_size is not None]
    return sizes[-1] if sizes else None


def require_relative_boxes(subjects: Sequence[Subject]) -> list[Box]:
    """Every subject's box in fractions of the picture, or a sentence about what is missing."""
    boxes = []
    for subject in subjects:
        if subject.box is None:
            raise ValueError(
                f"{subject.name} has no box: expected the place where '{subject.label}' shall "
                "stand. Write it in `box` of its Subject node, for example 0.1,0.3,0.5,0.9, or "
                "let `mode` of a Layout node find one."
            )
        if subject.box.unit != "relative":
            raise ValueError(
                f"{subject.name}'s box is in pixels of a picture of unknown size. Put a "
                "Subject-Diffusion Layout node, which knows the size, before Encode."
            )
        boxes.append(subject.box)
    return boxes
