# Shapes: V views of one subject, H, W size of a picture in pixels, h, w size of its latent.
"""Subjects to references: cut out, resized, encoded by the VAE, captioned."""

from __future__ import annotations

from typing import Any

from ..host.comfy_types import Conditioning
from ..host.picture_attention import PicturedSubject
from ..host.picture_latents import encode_picture
from ..subjects.reference_picture import prepare_picture
from ..subjects.subject import Subject
from .references import Reference, ReferencedSubject


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
        latent = encode_picture(vae, image, latent_channels)
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
