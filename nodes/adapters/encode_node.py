"""Encode: prompt and subjects to the three conditionings of Subject-Diffusion."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from comfy_api.latest import io

from ..host.cond import COND_KEY, BranchSubjects, SubjectCond, WatchedSubject, WatchedText
from ..host.node_warnings import box_warnings, label_warnings, show_warnings
from ..host.sampling_setup import null_branch
from ..host.schedule import Conditioning, limit_to_range
from ..subjects.periods import split_into_periods
from ..subjects.subject import Subject, Subjects, active_subjects, require_relative_boxes
from .adapter_types import (
    AdapterType,
    AppliedAdapter,
    LoadedAdapter,
    SubjectsType,
    require_adapter,
)
from .subject_diffusion.subject_branches import EncodedSubject, build_branch
from .subject_diffusion.text_encoding import (
    FusedText,
    encode_fused_text,
    encode_text,
    without_adapter,
)
from .subject_encoding import encode_subjects
from .vision import SubjectViews, encode_pictures

NODE_NAME = "Subject-Diffusion Encode"


class SubjectDiffusionEncode(io.ComfyNode):
    """Prompt, subjects and adapter -> full, image-only and negative conditioning."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SubjectDiffusionEncode",
            display_name=NODE_NAME,
            category="Subject-Diffusion",
            description=(
                "Encodes prompt and subjects. `positive` and `negative` work with every sampler; "
                "together with `image_only` they feed Subject-Diffusion Guider."
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP output of Subject-Diffusion Apply."),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="The image encoder the adapter was trained with: CLIP ViT-H/14, or the "
                    "tiny one.",
                ),
                AdapterType.Input(
                    "adapter", tooltip="The same adapter as in Subject-Diffusion Apply."
                ),
                SubjectsType.Input("subjects", tooltip="From Subject or Layout nodes."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="",
                    tooltip="What the picture shows. Name every subject by its label, e.g. 'a dog "
                    "and a cat'.",
                ),
                io.String.Input(
                    "negative_prompt",
                    multiline=True,
                    default="",
                    tooltip="What the picture must not show. Used in the image-only and the "
                    "negative branch.",
                ),
                io.Boolean.Input(
                    "box_coordinates",
                    default=True,
                    optional=True,
                    tooltip="Whether the subjects' features carry their places. Off, only the "
                    "location mask says where they stand: more likeness for a single subject in "
                    "the paper, but worse for several.",
                ),
                io.Image.Input(
                    "negative_image",
                    optional=True,
                    tooltip="What the subjects must not look like. The negative branch shows it in "
                    "their places instead of nothing.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "positive", display_name="positive", tooltip="Prompt and subjects."
                ),
                io.Conditioning.Output(
                    "image_only",
                    display_name="image_only",
                    tooltip="Subjects without the prompt, for Subject-Diffusion Guider.",
                ),
                io.Conditioning.Output(
                    "negative", display_name="negative", tooltip="Neither prompt nor subjects."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        clip_vision: Any,
        adapter: LoadedAdapter,
        subjects: Subjects,
        prompt: str,
        negative_prompt: str,
        box_coordinates: bool = True,
        negative_image: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        applied = require_adapter(clip.patcher, "CLIP", NODE_NAME)
        if applied.loaded.fingerprint != adapter.fingerprint:
            raise ValueError(
                f"adapter: expected '{applied.loaded.name}', which is on the CLIP, got "
                f"'{adapter.name}'. Connect the same adapter to {NODE_NAME} and Subject-Diffusion "
                "Apply."
            )
        subjects = active_subjects(subjects)
        require_relative_boxes(subjects)
        show_warnings(_warnings(subjects, prompt, negative_image, applied))
        stock = _stock_texts(clip, applied, (prompt, negative_prompt))
        if not applied.is_active:
            return io.NodeOutput(stock[prompt], stock[negative_prompt], stock[negative_prompt])
        encoded = encode_subjects(clip_vision, subjects, adapter.config)
        avoided = _encode_negative(clip_vision, negative_image, adapter)
        pieces = _make_pieces(
            clip, prompt, negative_prompt, encoded, avoided, applied, box_coordinates
        )
        return io.NodeOutput(
            _join(pieces.positive, stock[prompt], applied),
            _join(pieces.image_only, stock[negative_prompt], applied),
            _join(pieces.negative, stock[negative_prompt], applied),
        )


class Piece(NamedTuple):
    """One branch during a part of the sampling."""

    text: Conditioning
    subjects: BranchSubjects
    start: float
    end: float
    watched: WatchedText | None = None


class BranchPieces(NamedTuple):
    """The three branches, each from the adapter's start to its end."""

    positive: list[Piece]
    image_only: list[Piece]
    negative: list[Piece]


def _make_pieces(
    clip: Any,
    prompt: str,
    negative_prompt: str,
    encoded: list[EncodedSubject],
    avoided: SubjectViews | None,
    applied: AppliedAdapter,
    box_coordinates: bool,
) -> BranchPieces:
    """Subjects come and go during the sampling: a piece for each set of them.

    `avoided` is the negative image, which stands in every subject's place in the negative branch.
    """
    loaded = applied.loaded
    start, end = applied.start_percent, applied.end_percent
    ranges = [(subject.start_percent, subject.end_percent) for subject, _ in encoded]
    negative_text = encode_text(clip, negative_prompt)
    pieces = BranchPieces([], [], [])
    made: dict[tuple[int, ...], tuple[FusedText, BranchSubjects, BranchSubjects]] = {}
    for period in split_into_periods(ranges, start, end):
        if period.present not in made:
            present = [encoded[index] for index in period.present]
            subjects = tuple(subject for subject, _ in present)
            views = [views for _, views in present]
            fused = encode_fused_text(clip, prompt, subjects, views, loaded)
            avoiding = [EncodedSubject(subject, avoided or views) for subject, views in present]
            made[period.present] = (
                fused,
                build_branch(present, loaded, box_coordinates),
                build_branch(avoiding, loaded, box_coordinates),
            )
        fused, branch, negative = made[period.present]
        bounds = (period.start, period.end)
        watched = _watch(fused, subjects=[(i, encoded[i].subject) for i in period.present])
        pieces.positive.append(Piece(fused.conditioning, branch, *bounds, watched))
        pieces.image_only.append(Piece(negative_text, branch, *bounds))
        pieces.negative.append(Piece(negative_text, negative, *bounds))
    if avoided is None:
        null = null_branch(loaded.config, loaded.fingerprint)
        return pieces._replace(negative=[Piece(negative_text, null, start, end)])
    return pieces


def _watch(fused: FusedText, subjects: list[tuple[int, Subject]]) -> WatchedText:
    """Which tokens to look at, for Record Attention."""
    boxes = require_relative_boxes([subject for _, subject in subjects])
    watched = tuple(
        WatchedSubject(
            index=index,
            name=subject.name,
            label=subject.label,
            box_xyxy=box.edges,
            label_position=label_position,
            placeholder_position=placeholder_position,
        )
        for (index, subject), box, label_position, placeholder_position in zip(
            subjects, boxes, fused.label_positions, fused.placeholder_positions, strict=True
        )
    )
    return WatchedText(subjects=watched, num_tokens=fused.conditioning[0][0].shape[1])


def _stock_texts(
    clip: Any, applied: AppliedAdapter, texts: tuple[str, ...]
) -> dict[str, Conditioning]:
    """All stock encodings at once, as the CLIP's weights change between them and the adapter's."""
    stock = without_adapter(clip, applied)
    return {text: encode_text(stock, text) for text in dict.fromkeys(texts)}


def _join(pieces: list[Piece], stock: Conditioning, applied: AppliedAdapter) -> Conditioning:
    """One branch: the adapter's encodings while it is on, the stock encoding otherwise."""
    joined: Conditioning = []
    for piece in pieces:
        extra = {
            "model_conds": {COND_KEY: SubjectCond(piece.subjects, text=piece.watched)},
            # a ControlNet never saw fused text or the retrained text encoder
            "cross_attn_controlnet": stock[0][0],
        }
        inside = [[tensor, {**values, **extra}] for tensor, values in piece.text]
        is_whole = piece.start <= 0.0 and piece.end >= 1.0
        joined += inside if is_whole else limit_to_range(inside, piece.start, piece.end)
    if applied.is_always_on:
        return joined
    return [
        *limit_to_range(stock, 0.0, applied.start_percent),
        *joined,
        *limit_to_range(stock, applied.end_percent, 1.0),
    ]


def _encode_negative(
    clip_vision: Any, negative_image: torch.Tensor | None, adapter: LoadedAdapter
) -> SubjectViews | None:
    """The negative image through the vision encoder; a batch of them are views of one thing."""
    if negative_image is None:
        return None
    return encode_pictures(clip_vision, negative_image[..., :3], None, adapter.config)


def _warnings(
    subjects: Subjects, prompt: str, negative_image: torch.Tensor | None, applied: AppliedAdapter
) -> list[str]:
    """What will not work as a user may expect."""
    warnings = label_warnings(subjects, prompt) + box_warnings(subjects)
    config = applied.loaded.config
    ranges = [(subject.start_percent, subject.end_percent) for subject in subjects]
    periods = split_into_periods(ranges, applied.start_percent, applied.end_percent)
    most = max(len(period.present) for period in periods)
    if most > config.num_subjects:
        warnings.append(
            f"{most} subjects at once, but the adapter '{applied.loaded.name}' was trained with up "
            f"to {config.num_subjects}: they may blend or lose likeness. Use fewer for better ones."
        )
    if negative_image is not None and not subjects:
        warnings.append("negative_image has no effect without subjects, in whose places it stands.")
    return warnings
