"""Encode: prompt and subjects to the three conditionings of Subject-Diffusion."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from comfy_api.latest import io

from ..host.advanced_inputs import advanced
from ..host.comfy_types import AdapterType, Clip, ClipVision, Conditioning, SubjectsType
from ..host.layout_size import layout_size_values
from ..host.node_warnings import show_warnings
from ..host.schedule import HookBinder, clip_range
from ..host.search_words import search_words
from ..subjects.periods import split_into_periods
from ..subjects.subject import (
    Subjects,
    layout_size_of,
    require_relative_boxes,
)
from ..subjects.subject_warnings import box_warnings, label_warnings
from .family import (
    AppliedAdapter,
    Branches,
    EncodeRequest,
    LoadedAdapter,
    require_adapter,
)
from .image_encoding import encode_pictures, encode_subjects
from .texts import TextEncoder

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
            **search_words("ipadapter", "reference image", "personalise", "personalize"),
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP output of Subject-Diffusion Apply."),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="The image encoder the adapter was trained with: CLIP ViT-H/14, CLIP "
                    "ViT-bigG/14 or the tiny one. Adapter Loader says which.",
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
                    "the paper, but worse for several. No effect with an IP-Adapter.",
                    **advanced(),
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
        clip: Clip,
        clip_vision: ClipVision,
        adapter: LoadedAdapter,
        subjects: Subjects,
        prompt: str,
        negative_prompt: str,
        box_coordinates: bool = True,
        negative_image: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        applied = require_adapter(clip.patcher, "CLIP", NODE_NAME)
        _require_same_adapter(applied, adapter)
        subjects = tuple(subject for subject in subjects if subject.is_active)
        require_relative_boxes(
            [subject for subject in subjects if adapter.needs_boxes or subject.box is not None]
        )
        warnings = _warnings(subjects, prompt, negative_image, applied)
        show_warnings(warnings + adapter.warnings(subjects, box_coordinates))

        # texts as the base reads them; all at once, as the CLIP's weights change after them
        texts = TextEncoder(clip)
        stock_encoder = texts.without(applied.text_patches)
        stock_positive = stock_encoder.encode(prompt)
        stock_negative = stock_encoder.encode(negative_prompt)
        if not applied.is_active:
            return io.NodeOutput(stock_positive, stock_negative, stock_negative)

        # subjects and texts as the adapter reads them
        subjects = encode_subjects(clip_vision, subjects, adapter.pictures)
        request = EncodeRequest(
            prompt=prompt,
            negative_prompt=negative_prompt,
            negative_embeds=None
            if negative_image is None
            else encode_pictures(clip_vision, negative_image[..., :3], None, adapter.pictures),
            box_coordinates=box_coordinates,
            absent_embeds=adapter.pictures.encode_absence(clip_vision) if subjects else None,
        )
        pieces = list(_encode_periods(texts, request, subjects, applied))
        stock_texts = (stock_positive, stock_negative, stock_negative)
        joined = [
            _join([(made[index], start, end) for made, start, end in pieces], stock)
            for index, stock in enumerate(stock_texts)
        ]
        if applied.hook is not None:
            binder = HookBinder(applied.hook)
            joined = [_with_hook(conditioning, binder) for conditioning in joined]
        size = layout_size_values(layout_size_of(subjects))
        return io.NodeOutput(
            *([[text, {**values, **size}] for text, values in one] for one in joined)
        )


def _encode_periods(
    texts: TextEncoder, request: EncodeRequest, subjects: Subjects, applied: AppliedAdapter
) -> Iterator[tuple[Branches, float, float]]:
    """Subjects come and go during the sampling: the branches for each set of them, with start and
    end, from the adapter's start to its end."""
    encode = applied.loaded.branch_encoder(texts, request)
    ranges = [(subject.start_percent, subject.end_percent) for subject in subjects]
    made: dict[tuple[int, ...], Branches] = {}
    for period in split_into_periods(ranges, applied.start_percent, applied.end_percent):
        if period.present not in made:
            made[period.present] = encode([(index, subjects[index]) for index in period.present])
        yield made[period.present], period.start, period.end


def _join(pieces: list[tuple[Conditioning, float, float]], stock: Conditioning) -> Conditioning:
    """One branch: the adapter's encodings while it is on, the stock encoding otherwise."""
    merged = _merge_equal(pieces)
    (_, start, _), (_, _, end) = merged[0], merged[-1]
    joined = limit_to_range(stock, 0.0, start) if start > 0.0 else []
    for conditioning, first, last in merged:
        # a ControlNet never saw fused text or the retrained text encoder
        inside = [
            [tensor, {**values, "cross_attn_controlnet": stock[0][0]}]
            for tensor, values in conditioning
        ]
        is_whole = first <= 0.0 and last >= 1.0
        joined += inside if is_whole else limit_to_range(inside, first, last)
    return joined + (limit_to_range(stock, end, 1.0) if end < 1.0 else [])


def limit_to_range(
    conditioning: Conditioning, start_percent: float, end_percent: float
) -> Conditioning:
    """The same conditioning, in force between two percentages only."""
    limited = []
    for tensor, values in conditioning:
        clip_start = values.get("clip_start_percent", 0.0)
        clip_end = values.get("clip_end_percent", 1.0)
        bounds = clip_range(start_percent, end_percent, clip_start, clip_end)
        if bounds:
            limited.append([tensor, {**values, **bounds}])
    return limited


def _with_hook(conditioning: Conditioning, binder: HookBinder) -> Conditioning:
    """The same conditioning, carrying the hook."""
    return [
        [tensor, {**values, "hooks": binder.group_for(values.get("hooks"))}]
        for tensor, values in conditioning
    ]


def _merge_equal(
    pieces: list[tuple[Conditioning, float, float]],
) -> list[tuple[Conditioning, float, float]]:
    """Neighbours with the same conditioning become one."""
    merged = pieces[:1]
    for conditioning, first, last in pieces[1:]:
        before, start, _ = merged[-1]
        if conditioning is before:
            merged[-1] = (before, start, last)
        else:
            merged.append((conditioning, first, last))
    return merged


def _require_same_adapter(applied: AppliedAdapter, adapter: LoadedAdapter) -> None:
    if not applied.loaded.is_same(adapter):
        raise ValueError(
            f"adapter: expected '{applied.loaded.name}', which is on the CLIP, got "
            f"'{adapter.name}'. Connect the same adapter to {NODE_NAME} and Subject-Diffusion "
            "Apply."
        )


def _warnings(
    subjects: Subjects, prompt: str, negative_image: torch.Tensor | None, applied: AppliedAdapter
) -> list[str]:
    """What will not work as a user may expect."""
    warnings = label_warnings(subjects, prompt) + box_warnings(subjects)
    adapter = applied.loaded
    ranges = [(subject.start_percent, subject.end_percent) for subject in subjects]
    periods = split_into_periods(ranges, applied.start_percent, applied.end_percent)
    most = max(len(period.present) for period in periods)
    if adapter.num_subjects is not None and most > adapter.num_subjects:
        warnings.append(
            f"{most} subjects at once, but the adapter '{adapter.name}' was trained with up to "
            f"{adapter.num_subjects}: they may blend or lose likeness. Use fewer for better ones."
        )
    if negative_image is not None and not subjects:
        warnings.append("negative_image has no effect without subjects, in whose places it stands.")
    return warnings
