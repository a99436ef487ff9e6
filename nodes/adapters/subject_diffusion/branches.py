# Shapes: N slots of one branch, P patch tokens of a subject, C width of a patch token, E of its
#         pooled vector, S reference size.
"""What Subject-Diffusion reads of a picture, and its three branches: fused text, and what the UNet
sees of the subjects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ....subject_diffusion_core.checkpoint import Adapter, AdapterConfig
from ...host.comfy_types import ClipVision, Conditioning
from ...host.run_attachment import BranchCond
from ...host.sampling_run import WHOLE_PICTURE, Frame, WatchedSubject, WatchedText
from ...subjects.boxes import mask_edges
from ...subjects.subject import Embeds, Subject
from ..family import ATTACHMENT_KEY, Branches, EncodeRequest, PictureReader, Present
from ..texts import TextEncoder
from .fused_text import FusedText, FusedTextEncoder

_ENCODERS = {
    "sd2": "the CLIP-ViT-H-14 vision model (laion2B-s32B-b79K)",
    "sd15": "the CLIP-ViT-H-14 vision model (laion2B-s32B-b79K)",
    "tiny": "the CLIP_VISION output of Subject-Diffusion Tiny Loader",
}


class PatchReader(PictureReader):
    """A picture's patch tokens, and its pooled vector for the text."""

    def __init__(self, adapter_name: str, config: AdapterConfig) -> None:
        self._adapter_name = adapter_name
        self._config = config
        self.reference_size = config.reference_size
        self.encoder_to_connect = _ENCODERS[config.base_family]

    def encode(self, clip_vision: ClipVision, picture: torch.Tensor) -> Embeds:
        """Patch tokens (1, P, C) before the encoder's last norm, and the pooled and projected
        vector (1, E)."""
        output = clip_vision.encode_image(picture, crop=True)
        return {
            "patch_embeds": output.last_hidden_state[:, 1:].float().cpu(),
            "image_embeds": output.image_embeds.float().cpu(),
        }

    def require(self, argument: str, embeds: Embeds) -> None:
        config = self._config
        if not {"patch_embeds", "image_embeds"} <= set(embeds):
            raise ValueError(
                f"{argument}: expected patch_embeds and image_embeds for the adapter "
                f"'{self._adapter_name}', got {', '.join(sorted(embeds))}. Encode the subject "
                "again with the adapter that is used."
            )
        wanted = (config.num_patches, config.patch_dim, config.image_embed_dim)
        got = (*embeds["patch_embeds"].shape[1:], embeds["image_embeds"].shape[-1])
        if wanted != got:
            raise ValueError(
                "{}: expected an encoder with {} patches of width {} and an image embedding of "
                "width {}, got {} patches of width {} and width {}. Connect {}.".format(
                    argument, *wanted, *got, self.encoder_to_connect
                )
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class BranchSubjects:
    """What one branch (full, image-only or negative) knows of the subjects.

    Attributes:
        adapter: that encoded them.
        patch_embeds: (N, P, C); N = 0 is the branch without subjects.
        subject_boxes_xyxy: (N, 4) in 0..1 of the whole generated picture.
        subject_valid: (N,) bool, False where a slot is empty.
        token_strengths: (N,) strength of each slot's columns in the adapters' attention, 1 = as
            trained.
        subject_regions: per slot (H, W) in 0..1 of the whole generated picture, which takes the
            box's place in the location mask, or None for the box; empty: no slot has a region.
        subject_masks: per slot (H, W) in 0..1, cut at the subject's edges, which fills the box in
            the location mask, or None for all of the box; empty: no slot has a mask.
        box_coordinates: False leaves the boxes out of the grounding tokens; the location mask has
            them all the same.
    """

    adapter: Adapter
    patch_embeds: torch.Tensor
    subject_boxes_xyxy: torch.Tensor
    subject_valid: torch.Tensor
    token_strengths: torch.Tensor
    subject_regions: tuple[torch.Tensor | None, ...] = ()
    subject_masks: tuple[torch.Tensor | None, ...] = ()
    box_coordinates: bool = True

    @property
    def is_null(self) -> bool:
        return self.patch_embeds.shape[0] == 0

    @property
    def acts(self) -> bool:
        return not self.is_null

    @property
    def memory_shape(self) -> tuple[int, int]:
        slots, tokens, width = self.patch_embeds.shape
        return max(slots, 1) * tokens, width

    def subjects_in(self, frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (N, 4) in 0..1 of the frame, cut at its edges, and (N,) which are visible."""
        boxes, valid = self.subject_boxes_xyxy, self.subject_valid
        if frame == WHOLE_PICTURE:
            return boxes, valid
        x1, y1, x2, y2 = frame
        origin = boxes.new_tensor([x1, y1, x1, y1])
        size = boxes.new_tensor([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
        framed = ((boxes - origin) / size).clamp(0.0, 1.0)
        visible = (framed[:, 0] < framed[:, 2]) & (framed[:, 1] < framed[:, 3])
        return framed, valid & visible


def null_branch(adapter: Adapter) -> BranchSubjects:
    """The branch without subjects."""
    config = adapter.config
    return BranchSubjects(
        adapter=adapter,
        patch_embeds=torch.zeros(0, config.num_patches, config.patch_dim),
        subject_boxes_xyxy=torch.zeros(0, 4),
        subject_valid=torch.zeros(0, dtype=torch.bool),
        token_strengths=torch.zeros(0),
    )


def build_branch(
    subjects: Sequence[Subject],
    adapter: Adapter,
    box_coordinates: bool = True,
    instead: Embeds | None = None,
) -> BranchSubjects:
    """Every view fills a slot and has its share of the subject's strength.

    Empty slots are attended, too. So there are as many as beside so many subjects in training,
    whatever the number of views: a view given twice counts as once.

    Args:
        subjects: with boxes in fractions of the picture, and embeddings.
        instead: embeddings that take the place of every subject's own.
    """
    if not subjects:
        return null_branch(adapter)
    config = adapter.config
    views = [_patch_embeds(subject, instead) for subject in subjects]
    slots = [index for index, patches in enumerate(views) for _ in patches]
    num_empty = max(config.num_subjects - len(subjects), 0)
    empty = torch.zeros(num_empty, config.num_patches, config.patch_dim)
    boxes, strengths = torch.zeros(len(slots) + num_empty, 4), torch.ones(len(slots) + num_empty)
    valid = torch.arange(len(slots) + num_empty) < len(slots)
    for slot, index in enumerate(slots):
        boxes[slot] = torch.tensor(subjects[index].place.edges)
        strengths[slot] = subjects[index].strength / len(views[index])
    is_drawn = config.mask_kind == "segmentation"
    return BranchSubjects(
        adapter=adapter,
        patch_embeds=torch.cat([*views, empty]),
        subject_boxes_xyxy=boxes,
        subject_valid=valid,
        token_strengths=strengths,
        subject_regions=tuple(subjects[index].region for index in slots),
        subject_masks=tuple(_silhouette(subjects[i]) if is_drawn else None for i in slots),
        box_coordinates=box_coordinates,
    )


class BranchEncoder:
    """The three branches for any set of an Encode's subjects."""

    def __init__(
        self,
        texts: TextEncoder,
        adapter: Adapter,
        fused: FusedTextEncoder,
        request: EncodeRequest,
    ) -> None:
        self._adapter = adapter
        self._request = request
        self._fused = fused
        self._negative_text = texts.encode(request.negative_prompt)
        self._negative = _carrying(self._negative_text, null_branch(adapter))

    def encode(self, present: Present) -> Branches:
        subjects = [subject for _, subject in present]
        request = self._request
        fused = self._fused.encode(request.prompt, subjects)
        branch = build_branch(subjects, self._adapter, request.box_coordinates)
        return (
            _carrying(fused.conditioning, branch, _watch(fused, present)),
            _carrying(self._negative_text, branch),
            self._negative_of(subjects),
        )

    def _negative_of(self, subjects: list[Subject]) -> Conditioning:
        """The negative image stands in every subject's place."""
        request = self._request
        if request.negative_embeds is None:
            return self._negative
        avoided = build_branch(
            subjects, self._adapter, request.box_coordinates, instead=request.negative_embeds
        )
        return _carrying(self._negative_text, avoided)


def _carrying(
    text: Conditioning, subjects: BranchSubjects, watched: WatchedText | None = None
) -> Conditioning:
    carried = []
    for tensor, values in text:
        cond = BranchCond(value=subjects, text=watched, encoded=tensor)
        carried.append([tensor, {**values, "model_conds": {ATTACHMENT_KEY: cond}}])
    return carried


def _patch_embeds(subject: Subject, instead: Embeds | None) -> torch.Tensor:
    """(V, P, C)"""
    if instead is not None:
        return instead["patch_embeds"]
    assert subject.embeds is not None
    return subject.embeds.tensors["patch_embeds"]


def _silhouette(subject: Subject) -> torch.Tensor | None:
    """(H, W) the first view's mask, cut at the subject's edges; None without a mask."""
    edges = None if subject.masks is None else mask_edges(subject.masks[0])
    if subject.masks is None or edges is None:
        return None
    left, top, right, bottom = edges
    return subject.masks[0, top:bottom, left:right].float().cpu()


def _watch(fused: FusedText, present: Present) -> WatchedText:
    """Which tokens to look at, for Record Attention."""
    watched = tuple(
        WatchedSubject(
            index=index,
            name=subject.name,
            label=subject.label,
            box_xyxy=subject.place.edges,
            label_position=label_position,
            placeholder_position=placeholder_position,
        )
        for (index, subject), label_position, placeholder_position in zip(
            present, fused.label_positions, fused.placeholder_positions, strict=True
        )
    )
    return WatchedText(subjects=watched, num_tokens=fused.conditioning[0][0].shape[1])
