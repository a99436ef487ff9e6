# Shapes: V views of one subject, H, W size of a picture in pixels, h, w size of its latent.
"""Subjects to references: cut out, resized, encoded by the VAE, captioned."""

from __future__ import annotations

from typing import Any

import torch

from ...subject_diffusion_core.area_resize import area_resize
from ...subject_diffusion_core.files.subject_file import THUMBNAIL_SIZE
from ..host.comfy_types import Conditioning
from ..host.picture_attention import PicturedSubject
from ..subjects.boxes import mask_edges
from ..subjects.subject import Subject, Subjects
from .references import Reference, ReferencedSubject

# Of the subject's longer side: some surroundings, as the UNet knows no pictures without.
MARGIN = 0.1
LABEL = "<label>"


def read_references(
    subject: Subject,
    index: int,
    vae: Any,
    caption: Conditioning,
    *,
    omega_ref: float,
    use_mask: bool,
    reference_size: int,
    latent_channels: int,
) -> ReferencedSubject:
    """A subject with strength 1 has weight `omega_ref`, which its pictures share.

    Args:
        index: of the subject, for reports.
        vae: ComfyUI's VAE of the model.
        caption: what every picture of the subject shows.
        reference_size: longest side of a picture in pixels; 0 = its own.
        latent_channels: of the model's latents.
    """
    pictures = []
    for view, image in enumerate(subject.images):
        mask = None if subject.masks is None or not use_mask else subject.masks[view]
        multiple = vae.spacial_compression_encode()
        image, mask = prepare_picture(image.float().cpu(), mask, reference_size, multiple)
        latent = vae.encode(image[None])
        _require_latent(latent, latent_channels)
        pictures.append(Reference(latent=latent, mask=mask, caption=caption))
    box_xyxy = None if subject.box is None else subject.place.edges
    return ReferencedSubject(
        omega=omega_ref * subject.strength / len(pictures),
        pictures=tuple(pictures),
        box_xyxy=box_xyxy,
        region=subject.region,
        start_percent=subject.start_percent,
        end_percent=subject.end_percent,
        told_as=PicturedSubject(index=index, label=subject.label, box_xyxy=box_xyxy),
    )


def prepare_picture(
    image: torch.Tensor, mask: torch.Tensor | None, reference_size: int, multiple: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Cut a picture to the subject and its margin, and resize it for the VAE.

    Args:
        image: (H, W, 3) in 0..1.
        mask: (H, W) in 0..1, 1 = subject; None = all of the picture.
        reference_size: longest side of the result; smaller pictures stay as they are; 0 = no limit.
        multiple: of what the sides must be, at least one of it.

    Returns:
        Picture and mask of the same size.
    """
    if mask is not None:
        mask = mask.float().cpu()
        part = _with_margin(mask)
        image, mask = image[part], mask[part]
    height, width = image.shape[:2]
    scale = min(1.0, reference_size / max(height, width)) if reference_size > 0 else 1.0
    rows, columns = (max(1, round(side * scale / multiple)) * multiple for side in (height, width))
    if (rows, columns) != (height, width):
        image = area_resize(image.movedim(-1, 0), rows, columns).movedim(0, -1)
        mask = None if mask is None else area_resize(mask, rows, columns)
    return image.clamp(0, 1), None if mask is None else mask.clamp(0, 1)


def preview_warnings(subjects: Subjects) -> list[str]:
    """Subjects of saved files, whose pictures are no more than previews."""
    return [
        f"{subject.name} comes from a saved file, which holds a preview of "
        f"{subject.images.shape[2]} x {subject.images.shape[1]} pixels only. Connect a Subject "
        "node with its whole picture for a better likeness."
        for subject in subjects
        if subject.embeds is not None and max(subject.images.shape[1:3]) <= THUMBNAIL_SIZE
    ]


def caption_of(subject: Subject, caption: str) -> str:
    """The caption of a subject's pictures.

    >>> from types import SimpleNamespace
    >>> caption_of(SimpleNamespace(label="red bag"), "a photo of a <label>")
    'a photo of a red bag'
    """
    return caption.replace(LABEL, subject.label)


def _with_margin(mask: torch.Tensor) -> tuple[slice, slice]:
    edges = mask_edges(mask)
    assert edges is not None  # Subject refuses empty masks
    left, top, right, bottom = edges
    margin = round(MARGIN * max(right - left, bottom - top))
    return (
        slice(max(top - margin, 0), bottom + margin),
        slice(max(left - margin, 0), right + margin),
    )


def _require_latent(latent: torch.Tensor, channels: int) -> None:
    if latent.ndim != 4 or latent.shape[1] != channels:
        raise ValueError(
            f"vae: expected one that gives latents of {channels} channels for this model, got "
            f"latents of shape {tuple(latent.shape)}. Connect the VAE that belongs to the model."
        )
