"""Subjects through the image encoder, or with what it said of them earlier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import comfy.model_management
import comfy.utils

from ...subject_diffusion_core.files.adapter_config import AdapterConfig
from ...subject_diffusion_core.files.subject_file import hash_weights
from ..subjects.subject import Subject, SubjectEmbeds, Subjects
from .subject_diffusion.subject_branches import EncodedSubject
from .vision import SubjectViews, encode_pictures, encoder_to_connect, require_widths


def encode_subjects(
    clip_vision: Any, subjects: Subjects, config: AdapterConfig
) -> list[EncodedSubject]:
    """Run the vision encoder over every view of every subject that has no embeddings yet."""
    views = sum(len(subject.images) for subject in subjects if subject.embeds is None)
    progress = comfy.utils.ProgressBar(views)

    def on_view() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)

    _require_same_encoder(clip_vision, subjects, config)
    return [
        EncodedSubject(subject, subject.embeds.views)
        if subject.embeds is not None
        else EncodedSubject(
            subject,
            encode_pictures(clip_vision, subject.images, subject.masks, config, on_view),
        )
        for subject in subjects
    ]


def with_embeds(clip_vision: Any, subjects: Subjects, config: AdapterConfig) -> Subjects:
    """The same subjects, each with its embeddings."""
    encoder_hash = hash_weights(clip_vision.get_sd())

    def keep(subject: Subject, views: SubjectViews) -> Subject:
        embeds = SubjectEmbeds(
            views=views, encoder_hash=encoder_hash, reference_size=config.reference_size
        )
        return replace(subject, embeds=embeds)

    return tuple(keep(*encoded) for encoded in encode_subjects(clip_vision, subjects, config))


def _require_same_encoder(
    clip_vision: Any, subjects: Sequence[Subject], config: AdapterConfig
) -> None:
    """Embeddings of another encoder would pass for those of this one and mean something else."""
    encoded = [subject for subject in subjects if subject.embeds is not None]
    encoder_hash = hash_weights(clip_vision.get_sd()) if encoded else ""
    for subject in encoded:
        assert subject.embeds is not None
        embeds = subject.embeds
        require_widths(f"{subject.name}'s embeddings", embeds.views, config)
        if embeds.reference_size != config.reference_size:
            raise ValueError(
                f"{subject.name}'s embeddings: expected those of a picture of "
                f"{config.reference_size} pixels, got {embeds.reference_size}. Encode the subject "
                "again with the adapter that is used."
            )
        if embeds.encoder_hash != encoder_hash:
            raise ValueError(
                f"clip_vision: expected the encoder that {subject.name} ('{subject.label}') was "
                f"encoded with ({embeds.encoder_hash[:8]}), got another ({encoder_hash[:8]}). "
                f"Connect {encoder_to_connect(config)}, or encode the subject again."
            )
