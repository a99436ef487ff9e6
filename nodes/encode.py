# Shapes: N slots, P patch tokens of a subject, C width of a patch token.
"""Encode: prompt and subjects to the three conditionings of Subject-Diffusion."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io

from .adapter_types import (
    AdapterType,
    AppliedAdapter,
    LoadedAdapter,
    SubjectsType,
    require_adapter,
)
from .cond import COND_KEY, BranchSubjects, SubjectCond
from .sampling_setup import null_branch
from .schedule import Conditioning, limit_to_range
from .subjects import Subjects, active_subjects, require_relative_boxes
from .text_encoding import encode_fused_text, encode_text, without_adapter
from .vision import SubjectViews, encode_subject

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
        _warn_about_missing_labels(subjects, prompt)
        stock = _stock_texts(clip, applied, (prompt, negative_prompt))
        if not applied.is_active:
            return io.NodeOutput(stock[prompt], stock[negative_prompt], stock[negative_prompt])
        branch, views = _encode_subjects(clip_vision, subjects, adapter)
        null = null_branch(adapter.config, adapter.fingerprint)
        fused = encode_fused_text(clip, prompt, subjects, views, adapter)
        negative = encode_text(clip, negative_prompt)
        return io.NodeOutput(
            _join(fused, stock[prompt], branch, applied),
            _join(negative, stock[negative_prompt], branch, applied),
            _join(negative, stock[negative_prompt], null, applied),
        )


def _stock_texts(
    clip: Any, applied: AppliedAdapter, texts: tuple[str, ...]
) -> dict[str, Conditioning]:
    """All stock encodings at once, as the CLIP's weights change between them and the adapter's."""
    stock = without_adapter(clip, applied)
    return {text: encode_text(stock, text) for text in dict.fromkeys(texts)}


def _join(
    inside: Conditioning, stock: Conditioning, subjects: BranchSubjects, applied: AppliedAdapter
) -> Conditioning:
    """One branch: the adapter's encoding while it is on, the stock encoding otherwise."""
    extra = {
        "model_conds": {COND_KEY: SubjectCond(subjects)},
        # a ControlNet never saw fused text or the retrained text encoder
        "cross_attn_controlnet": stock[0][0],
    }
    inside = [[tensor, {**values, **extra}] for tensor, values in inside]
    if applied.is_always_on:
        return inside
    start, end = applied.start_percent, applied.end_percent
    return [
        *limit_to_range(stock, 0.0, start),
        *limit_to_range(inside, start, end),
        *limit_to_range(stock, end, 1.0),
    ]


def _encode_subjects(
    clip_vision: Any, subjects: Subjects, adapter: LoadedAdapter
) -> tuple[BranchSubjects, list[SubjectViews]]:
    """Run the vision encoder; every view fills a slot and has its share of the strength."""
    config = adapter.config
    boxes = require_relative_boxes(subjects)
    progress = comfy.utils.ProgressBar(sum(len(subject.images) for subject in subjects))

    def on_view() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)

    views = [encode_subject(clip_vision, subject, config, on_view) for subject in subjects]
    slots = [(i, patch) for i, encoded in enumerate(views) for patch in encoded.patch_embeds]
    num_slots = max(len(slots), config.num_subjects) if slots else 0
    patch_embeds = torch.zeros(num_slots, config.num_patches, config.patch_dim)
    boxes_xyxy, valid = torch.zeros(num_slots, 4), torch.zeros(num_slots, dtype=torch.bool)
    strengths = torch.ones(num_slots)
    for slot, (index, patch) in enumerate(slots):
        patch_embeds[slot] = patch
        boxes_xyxy[slot] = torch.tensor(boxes[index].edges)
        valid[slot] = True
        strengths[slot] = subjects[index].strength / len(views[index].patch_embeds)
    branch = BranchSubjects(
        fingerprint=adapter.fingerprint,
        patch_embeds=patch_embeds,
        subject_boxes_xyxy=boxes_xyxy,
        subject_valid=valid,
        token_strengths=strengths,
    )
    return branch, views


def _warn_about_missing_labels(subjects: Subjects, prompt: str) -> None:
    for subject in subjects:
        if prompt.strip() and subject.label.lower() not in prompt.lower():
            logging.warning(
                "%s: its label '%s' is not in the prompt; name it there for a better picture.",
                subject.name,
                subject.label,
            )
