# Shapes: V views of one subject, H and W the picture's size.
"""SUBJECTS: what travels between the Subject, Layout and Encode nodes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ...subject_diffusion_core.errors import require_finite_numbers, require_finite_tensor
from .boxes import Box
from .layout_constants import CONSTANTS

PLACEHOLDER_MASK_SIZE = (64, 64)
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
        strength: 0 removes the subject, 1 is the trained strength.
        start_percent, end_percent: the part of the sampling, 0..1, in which it takes part.
        region: (H, W) in 0..1 of the whole generated picture: where it acts, in place of the box's
            rectangle in the location mask; None = the box.
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
    embeds: SubjectEmbeds | None = None

    @property
    def is_active(self) -> bool:
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


def make_subject(
    images: torch.Tensor,
    masks: torch.Tensor | None,
    label: str,
    box: Box | None,
    strength: float,
    owner: str,
) -> Subject:
    """Check the inputs of the Subject node and put them together, on the CPU: with --gpu-only some
    nodes give pictures and masks that lie on the GPU, others do not."""
    label = " ".join(label.split())
    if not label:
        raise ValueError(
            f"{owner} has no label: expected one or a few words such as 'dog', got an empty text. "
            "Write in `label` what the picture shows."
        )
    if images.shape[0] == 0:
        raise ValueError(
            f"{owner}'s image: expected one picture or more, got an empty batch. Connect a picture."
        )
    require_finite_numbers(owner, strength=strength)
    require_finite_tensor(f"{owner}'s image", images, "the nodes before it")
    views = images[..., :3].cpu()
    return Subject(
        name=owner,
        images=views,
        masks=_checked_masks(None if masks is None else masks.cpu(), views, owner),
        label=label,
        box=box,
        strength=strength,
    )


def _checked_masks(
    masks: torch.Tensor | None, images: torch.Tensor, owner: str
) -> torch.Tensor | None:
    """The masks as (V, H, W), or None where ComfyUI only handed over its "this picture has no
    alpha" mask."""
    if masks is None:
        return None
    if masks.ndim == 2:
        masks = masks.unsqueeze(0)
    views, height, width = images.shape[:3]
    size = tuple(masks.shape[-2:])
    if size != (height, width):
        if size == PLACEHOLDER_MASK_SIZE and bool(masks.min() == masks.max()):
            logging.info("%s: the picture has no alpha channel, so its mask is not used.", owner)
            return None
        raise ValueError(
            f"{owner}'s mask: expected the size of its picture, {width}x{height}, got "
            f"{size[1]}x{size[0]}. Connect the mask of the same picture or resize it."
        )
    if masks.shape[0] not in (1, views):
        raise ValueError(
            f"{owner}'s mask: expected 1 mask or one per view ({views}), got {masks.shape[0]}. "
            "Connect as many masks as pictures."
        )
    require_finite_tensor(f"{owner}'s mask", masks, "the nodes before it")
    if bool((masks.amax(dim=(1, 2)) <= CONSTANTS.mask_threshold).any()):
        raise ValueError(
            f"{owner}'s mask: expected 1 where the subject is, got a mask that is empty. ComfyUI's "
            "Load Image gives 1 where the picture is transparent: put Invert Mask between."
        )
    return masks.expand(views, -1, -1)


def checked_region(region: torch.Tensor, owner: str) -> torch.Tensor:
    """A MASK of the generated picture, (H, W) or (1, H, W) -> (H, W) in 0..1."""
    masks = region.unsqueeze(0) if region.ndim == 2 else region
    if masks.shape[0] != 1:
        raise ValueError(
            f"{owner}'s region: expected one mask of the generated picture, got {masks.shape[0]}. "
            "Pick one of them."
        )
    if not bool(masks.isfinite().all()):
        raise ValueError(
            f"{owner}'s region: expected numbers from 0 to 1, got NaN or infinity. Use another "
            "mask."
        )
    return masks[0].float().cpu().clamp(0.0, 1.0)


def active_subjects(subjects: Subjects) -> Subjects:
    """The subjects that take part: strength 0 or an empty range removes a subject."""
    return tuple(subject for subject in subjects if subject.is_active)


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
