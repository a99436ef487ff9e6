# Shapes: N slots of one branch, P patch tokens of a subject, C width of a patch token.
"""The subjects of one guidance branch, as an entry of ComfyUI's `model_conds`.

ComfyUI merges the conditionings of all branches into one UNet call through the methods of the
entries in `model_conds`; the merged value arrives as the keyword `COND_KEY` of the UNet call, where
`unet_patches` takes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from .generation import Generation

COND_KEY = "subject_diffusion"
Frame = tuple[float, float, float, float]
WHOLE_PICTURE: Frame = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchSubjects:
    """What one branch (full, image-only or negative) knows of the subjects.

    Attributes:
        fingerprint: of the adapter that encoded them.
        patch_embeds: (N, P, C); N = 0 is the branch without subjects.
        subject_boxes_xyxy: (N, 4) in 0..1 of the whole generated picture.
        subject_valid: (N,) bool, False where a slot is empty.
        token_strengths: (N,) strength of each slot's columns in the adapters' attention, 1 = as
            trained.
        subject_regions: per slot (H, W) in 0..1 of the whole generated picture, which takes the
            box's place in the location mask, or None for the box; empty: no slot has a region.
        box_coordinates: False leaves the boxes out of the grounding tokens; the location mask has
            them all the same.
    """

    fingerprint: str
    patch_embeds: torch.Tensor
    subject_boxes_xyxy: torch.Tensor
    subject_valid: torch.Tensor
    token_strengths: torch.Tensor
    subject_regions: tuple[torch.Tensor | None, ...] = ()
    box_coordinates: bool = True

    @property
    def is_null(self) -> bool:
        return self.patch_embeds.shape[0] == 0


@dataclass(frozen=True, kw_only=True)
class WatchedSubject:
    """Where a subject's words are in the text of a branch.

    Attributes:
        index: of the subject in the list that was encoded.
        name, label: as in `Subject`.
        box_xyxy: in 0..1 of the whole generated picture.
        label_position, placeholder_position: of the label's last token in the suffix and of the
            placeholder, among the tokens of the conditioning.
    """

    index: int
    name: str
    label: str
    box_xyxy: tuple[float, float, float, float]
    label_position: int
    placeholder_position: int


@dataclass(frozen=True, kw_only=True)
class WatchedText:
    """The subjects that a branch's text names; `num_tokens` is that of the whole conditioning."""

    subjects: tuple[WatchedSubject, ...]
    num_tokens: int


class FramedBranch(NamedTuple):
    """A branch seen through the area (x1, y1, x2, y2 in 0..1) that a conditioning covers.

    `text` is None where the branch's text names no subjects.
    """

    branch: BranchSubjects
    frame: Frame
    text: WatchedText | None = None

    def subjects_in_frame(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (N, 4) in 0..1 of the frame, cut at its edges, and (N,) which are visible."""
        boxes, valid = self.branch.subject_boxes_xyxy, self.branch.subject_valid
        if self.frame == WHOLE_PICTURE:
            return boxes, valid
        x1, y1, x2, y2 = self.frame
        origin = boxes.new_tensor([x1, y1, x1, y1])
        size = boxes.new_tensor([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
        framed = ((boxes - origin) / size).clamp(0.0, 1.0)
        visible = (framed[:, 0] < framed[:, 2]) & (framed[:, 1] < framed[:, 3])
        return framed, valid & visible


@dataclass(frozen=True, kw_only=True, eq=False)
class MergedSubjects:
    """The subjects of one UNet call: each part holds for so many consecutive samples."""

    parts: tuple[tuple[FramedBranch, int], ...]
    generation: Generation | None


class SubjectCond:
    """A `model_conds` entry, with the interface of `comfy.conds.CONDRegular`."""

    def __init__(
        self,
        branch: BranchSubjects,
        *,
        generation: Generation | None = None,
        frame: Frame = WHOLE_PICTURE,
        batch_size: int = 1,
        text: WatchedText | None = None,
    ) -> None:
        self.branch = branch
        self.generation = generation
        self.frame = frame
        self.batch_size = batch_size
        self.text = text

    def bound(self, generation: Generation, num_tokens: int) -> SubjectCond:
        """The same subjects inside one sampling run, in which their conditioning has `num_tokens`:
        more than when it was encoded, if other text was appended."""
        text = None if self.text is None else replace(self.text, num_tokens=num_tokens)
        return SubjectCond(self.branch, generation=generation, text=text)

    def process_cond(
        self, batch_size: int, area: list[int] | None = None, **_kwargs: Any
    ) -> SubjectCond:
        """The entry for one model call; `area` is (height, width, y, x) in latent cells."""
        frame = WHOLE_PICTURE
        if area is not None and self.generation is not None:
            frame = self.generation.area_to_frame(area)
        return SubjectCond(
            self.branch,
            generation=self.generation,
            frame=frame,
            batch_size=batch_size,
            text=self.text,
        )

    def can_concat(self, other: Any) -> bool:
        return isinstance(other, SubjectCond) and other.generation is self.generation

    def concat(self, others: list[SubjectCond]) -> MergedSubjects:
        parts = tuple(
            (FramedBranch(cond.branch, cond.frame, cond.text), cond.batch_size)
            for cond in (self, *others)
        )
        return MergedSubjects(parts=parts, generation=self.generation)

    def size(self) -> list[int]:
        """For ComfyUI's memory estimate."""
        slots, tokens, width = self.branch.patch_embeds.shape
        return [self.batch_size, max(slots, 1) * tokens, width]
