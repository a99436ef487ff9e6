# Shapes: V views of one subject, S reference size.
"""Subjects through the image encoder, or with what it said of them earlier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import comfy.model_management
import comfy.utils
import torch

from ...subject_diffusion_core.files.subject_file import hash_weights
from ...subject_diffusion_core.pictures import prepare_reference
from ..host.comfy_types import ClipVision
from ..subjects.subject import Embeds, Subject, SubjectEmbeds, Subjects
from .family import PictureReader


def reference_pictures(
    images: torch.Tensor, masks: torch.Tensor | None, size: int
) -> Iterator[torch.Tensor]:
    """Every view of a subject as the encoder gets it: (S, S, 3) in 0..1, cut out, on white.

    `images` (V, H, W, 3) and `masks` (V, H, W) or None are those of a `Subject`.
    """
    for view, image in enumerate(images):
        mask = torch.ones(image.shape[:2]) if masks is None else masks[view].float().cpu()
        yield prepare_reference(image.float().cpu(), mask, size).movedim(0, -1)


def encode_pictures(
    clip_vision: ClipVision,
    images: torch.Tensor,
    masks: torch.Tensor | None,
    pictures: PictureReader,
    on_view: Callable[[], None] = lambda: None,
) -> Embeds:
    """Encode every view of a subject; `on_view` is called before each, for progress and cancel."""
    views = []
    for picture in reference_pictures(images, masks, pictures.reference_size):
        on_view()
        view = pictures.encode(clip_vision, picture[None])
        pictures.require("clip_vision", view)
        views.append(view)
    return {name: torch.cat([view[name] for view in views]) for name in views[0]}


def encode_subjects(
    clip_vision: ClipVision, subjects: Subjects, pictures: PictureReader, keep: bool = False
) -> Subjects:
    """The same subjects, each with its embeddings; the encoder runs for those without.

    Args:
        pictures: of the adapter that they are for.
        keep: note which encoder it was, for subjects that outlive this run.
    """
    is_encoded = any(subject.embeds is not None for subject in subjects)
    encoder_hash = hash_weights(clip_vision.get_sd()) if is_encoded or keep else ""
    for subject in subjects:
        if subject.embeds is not None:
            _require_same_encoder(subject, subject.embeds, encoder_hash, pictures)
    views = sum(len(subject.images) for subject in subjects if subject.embeds is None)
    progress = comfy.utils.ProgressBar(views)

    def on_view() -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        progress.update(1)

    def encode(subject: Subject) -> SubjectEmbeds:
        tensors = encode_pictures(clip_vision, subject.images, subject.masks, pictures, on_view)
        return SubjectEmbeds(
            tensors=tensors, encoder_hash=encoder_hash, reference_size=pictures.reference_size
        )

    return tuple(replace(subject, embeds=subject.embeds or encode(subject)) for subject in subjects)


def _require_same_encoder(
    subject: Subject, embeds: SubjectEmbeds, encoder_hash: str, pictures: PictureReader
) -> None:
    """Embeddings of another encoder would pass for those of this one and mean something else."""
    pictures.require(f"{subject.name}'s embeddings", embeds.tensors)
    if embeds.reference_size != pictures.reference_size:
        raise ValueError(
            f"{subject.name}'s embeddings: expected those of a picture of "
            f"{pictures.reference_size} pixels, got {embeds.reference_size}. Encode the subject "
            "again with the adapter that is used."
        )
    if embeds.encoder_hash != encoder_hash:
        raise ValueError(
            f"clip_vision: expected the encoder that {subject.name} ('{subject.label}') was "
            f"encoded with ({embeds.encoder_hash[:8]}), got another ({encoder_hash[:8]}). "
            f"Connect {pictures.encoder_to_connect}, or encode the subject again."
        )
