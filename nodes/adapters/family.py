"""The contract of a family of adapters: all that the nodes ask of one.

A family is a folder beside this file and a line in `registry.py`. The nodes find subjects, texts,
ranges and warnings; the family says what it needs of encoder and base, what its branches carry, and
what it puts on a MODEL.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ...subject_diffusion_core.files.header import FileHeader
from ...subject_diffusion_core.files.measured_guidance import MeasuredGuidance
from ..host.comfy_types import Clip, ClipVision, Conditioning, Hook, Model, Patcher, Patches
from ..subjects.subject import Embeds, Subject, Subjects
from .texts import TextEncoder

ATTACHMENT_KEY = "subject_diffusion"

# The subjects of a part of the sampling, each with its index in the list that is encoded.
Present = Sequence[tuple[int, Subject]]
# Positive, image-only and negative branch of guidance during a part of the sampling.
Branches = tuple[Conditioning, Conditioning, Conditioning]


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodeRequest:
    """What Encode was asked for, beside the subjects.

    Attributes:
        negative_embeds: of the negative image, None without one.
        absent_embeds: of no picture at all, where the family asked for them.
        box_coordinates: whether the subjects' features carry their places.
    """

    prompt: str
    negative_prompt: str
    negative_embeds: Embeds | None
    box_coordinates: bool
    absent_embeds: Embeds | None = None


class PictureReader(ABC):
    """What an adapter needs of an image encoder.

    Attributes:
        reference_size: side of the pictures that the encoder gets, in pixels.
        encoder_to_connect: what errors about the encoder ask for.
    """

    reference_size: int
    encoder_to_connect: str

    @abstractmethod
    def encode(self, clip_vision: ClipVision, picture: torch.Tensor) -> Embeds:
        """Of one reference picture (1, S, S, 3) in 0..1, on the CPU in float32."""

    def encode_absence(self, clip_vision: ClipVision) -> Embeds | None:
        """What stands for a picture in the negative branch, None if nothing does."""
        return None

    @abstractmethod
    def require(self, argument: str, embeds: Embeds) -> None:
        """One clear sentence about `argument` unless these embeddings fit."""


class LoadedAdapter(ABC):
    """An adapter file in memory.

    Attributes:
        name: the file's name, for messages.
        summary: what the file is and needs, for people; empty if its name says it.
        num_subjects: how many at once it was trained with, None if that is not known.
        pictures: what it needs of an image encoder.
        needs_boxes: whether every subject must have a box; without one it acts everywhere.
        changes_weights: whether `attach` puts differences on the UNet's weights.
        measured_guidance: at which it was measured, None if its file does not say.
    """

    name: str
    summary: str = ""
    num_subjects: int | None
    pictures: PictureReader
    needs_boxes: bool = True
    changes_weights: bool = False
    measured_guidance: MeasuredGuidance | None = None

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Tells adapters apart, also when the same file is loaded twice."""

    @abstractmethod
    def block_names(self, model: Model) -> Sequence[str]:
        """diffusers' names of the transformer blocks of a MODEL that it fits, in which it acts."""

    def block_presets(self, model: Model) -> Mapping[str, Mapping[str, float]]:
        """Names that `block_weights` of Apply knows besides the blocks, and what they stand for."""
        return {}

    def warnings(self, subjects: Subjects, box_coordinates: bool) -> list[str]:
        """What of Encode's inputs has no effect with this family, one sentence each."""
        return []

    @abstractmethod
    def require_base(self, model: Model) -> None:
        """One clear sentence unless the MODEL is a base that the adapter fits."""

    @abstractmethod
    def text_patches(self, clip: Clip) -> Patches:
        """Differences for the text encoder; empty if it stays as it is."""

    @abstractmethod
    def branch_encoder(
        self, texts: TextEncoder, request: EncodeRequest
    ) -> Callable[[Present], Branches]:
        """Encodes the three branches for any set of the subjects, each with its embeddings.

        The conditionings carry a `BranchCond` under `ATTACHMENT_KEY`. Equal branches of different
        sets are the same object.
        """

    @abstractmethod
    def attach(self, model: Model, applied: AppliedAdapter) -> None:
        """Put everything on a clone of the MODEL that makes it act; `applied` is active."""

    def is_same(self, other: LoadedAdapter) -> bool:
        return self is other or self.fingerprint == other.fingerprint


@dataclass(frozen=True, kw_only=True, eq=False)
class AppliedAdapter:
    """What the Apply node leaves on its MODEL and CLIP, for Encode and Guider to find.

    Attributes:
        strength: of everything that the adapter does.
        start_percent, end_percent: the part of sampling in which the adapter is on.
        text_patches: parameter name -> the patch that this adapter put on the CLIP.
        block_strengths: block name -> strength of the adapter there.
        hook: switches weight differences at start and end; None if nothing is to be switched.
    """

    loaded: LoadedAdapter
    strength: float
    start_percent: float
    end_percent: float
    text_patches: Patches
    block_strengths: dict[str, float]
    hook: Hook | None

    @property
    def is_active(self) -> bool:
        return self.strength != 0.0 and self.start_percent < self.end_percent

    @property
    def is_always_on(self) -> bool:
        return self.start_percent <= 0.0 and self.end_percent >= 1.0


@dataclass(frozen=True, kw_only=True)
class AdapterFamily:
    """How files of one family are found and read.

    Attributes:
        method: as the metadata of its files names it.
        recognises: whether a file with these tensors and this metadata is one.
        load: reads the rest of it and checks it.
    """

    method: str
    recognises: Callable[[FileHeader], bool]
    load: Callable[[FileHeader], LoadedAdapter]


def applied_adapter(patcher: Patcher) -> AppliedAdapter | None:
    """The adapter on a MODEL or on the patcher of a CLIP, if there is one."""
    applied: AppliedAdapter | None = patcher.get_attachment(ATTACHMENT_KEY)
    return applied


def require_adapter(patcher: Patcher, kind: str, node: str) -> AppliedAdapter:
    """The adapter on a MODEL or CLIP; `kind` and `node` name input and node in the error."""
    applied = applied_adapter(patcher)
    if applied is None:
        raise ValueError(
            f"{node}: expected the {kind} output of Subject-Diffusion Apply, got a {kind} without "
            f"an adapter. Put a Subject-Diffusion Apply node before {node} and connect its {kind}."
        )
    return applied
