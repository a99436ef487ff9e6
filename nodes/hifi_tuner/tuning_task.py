# Shapes: V pictures of the subject, H, W their size in pixels, h, w size of a latent.
"""Subjects, captions and settings of the node to what is tuned on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from ...subject_diffusion_core.hifi_tuner import TuningSettings, latent_mask
from ..adapters.texts import TextEncoder
from ..host.comfy_types import Clip, Conditioning, Model
from ..host.picture_latents import checked_vae, encode_picture, latent_channels
from ..host.unet_geometry import require_unet
from ..host.weight_diffs import unpatched_weight
from ..subjects.reference_picture import LABEL, prepare_picture
from ..subjects.subject import Subject, Subjects
from .prompt_room import require_room
from .provenance import TEXT_KEYS, hash_model, hash_run, model_name, settings_of
from .tuning_run import SCHEDULE, TuningTask, step_sigmas_of


def one_subject(subjects: Subjects) -> tuple[Subjects, str]:
    """The entries that take part, all pictures of one subject, and its label."""
    active = tuple(subject for subject in subjects if subject.is_active)
    if not active:
        raise ValueError(
            "subjects: expected one or more with a strength above 0, got none. Connect a Subject "
            "node."
        )
    labels = sorted({subject.label for subject in active})
    if len(labels) > 1:
        raise ValueError(
            f"subjects: expected pictures of one subject, got the labels {', '.join(labels)}. Tune "
            "one embedding for each, or give all pictures the same label."
        )
    return active, labels[0]


def make_task(
    model: Model,
    clip: Clip,
    vae: Any,
    subjects: Subjects,
    caption: str,
    settings: TuningSettings,
    *,
    num_step_sets: int,
    use_mask: bool,
    picture_size: int,
) -> TuningTask:
    """Encode what is tuned on.

    Args:
        caption: what the pictures show, the label in its place.
        picture_size: longest side in pixels; 0 = their own size.
    """
    require_unet(model)
    texts = TextEncoder(clip)
    require_room(texts.words(caption), settings.num_vectors, "caption")
    latents, masks = _encode_pictures(
        checked_vae(vae), subjects, use_mask, picture_size, latent_channels(model)
    )
    _require_width(model, texts.encode(caption))
    sampling = model.get_model_object("model_sampling")
    return TuningTask(
        latents=latents,
        masks=masks,
        caption=texts.encode(caption),
        null=texts.encode(""),
        step_sigmas=step_sigmas_of(sampling, num_step_sets),
        settings=settings,
    )


def _require_width(model: Model, text: Conditioning) -> None:
    """One sentence where the model reads texts of another width."""
    name = next((n for n in model.model_state_dict() if n.endswith(TEXT_KEYS)), None)
    found = None if name is None else unpatched_weight(model, name)
    width = text[0][0].shape[-1]
    if found is not None and found[0].ndim == 2 and found[0].shape[1] != width:
        raise ValueError(
            f"clip: expected the model's text encoder, of width {found[0].shape[1]}, got one of "
            f"width {width}. Connect the CLIP that belongs to the model."
        )


def caption_for(label: str, caption: str) -> str:
    """The caption of the pictures; it has to name the subject.

    >>> caption_for("red bag", "a photo of a <label>")
    'a photo of a red bag'
    """
    if not caption.strip():
        raise ValueError(
            f"caption: expected what the pictures show, got an empty text. Write a photo of a "
            f"{LABEL}."
        )
    return caption.replace(LABEL, label)


def provenance_of(model: Model, task: TuningTask, caption: str, label: str) -> dict[str, Any]:
    """For the file: of what and how the embedding is tuned."""
    shares = [1.0 if mask is None else float(mask.float().mean()) for mask in task.masks]
    return {
        "method": "HiFi Tuner",
        "base": model_name(model),
        "base_hash": hash_model(model),
        "label": label,
        "caption": caption,
        "latent_sizes": [list(latent.shape[-2:]) for latent in task.latents],
        "mask_shares": [round(share, 4) for share in shares],
        "schedule": SCHEDULE,
        **asdict(task.settings),
    }


def run_name(model: Model, task: TuningTask, provenance: dict[str, Any]) -> str:
    """Names a run by everything that it depends on, so that it can be found again."""
    tensors = {f"latent {i}": latent for i, latent in enumerate(task.latents)}
    masks = enumerate(task.masks)
    tensors |= {f"mask {i}": mask.float() for i, mask in masks if mask is not None}
    tensors |= {"caption": task.caption[0][0], "null": task.null[0][0]}
    tensors["step_sigmas"] = task.step_sigmas
    return hash_run(tensors, {**provenance, "model": settings_of(model)})


def _encode_pictures(
    vae: Any, subjects: Subjects, use_mask: bool, picture_size: int, channels: int
) -> tuple[list[torch.Tensor], list[torch.Tensor | None]]:
    latents, masks = [], []
    for subject in subjects:
        for view, image in enumerate(subject.images):
            mask = None if subject.masks is None or not use_mask else subject.masks[view]
            multiple = vae.spacial_compression_encode()
            image, mask = prepare_picture(image.float().cpu(), mask, picture_size, multiple)
            latents.append(encode_picture(vae, image, channels))
            masks.append(None if mask is None else _checked_mask(mask, latents[-1], subject))
    return latents, masks


def _checked_mask(mask: torch.Tensor, latent: torch.Tensor, subject: Subject) -> torch.Tensor:
    cells = latent_mask(mask, *latent.shape[-2:])
    if not bool(cells.any()):
        raise ValueError(
            f"{subject.name}'s mask: expected a subject of more than half a cell of the latent "
            f"somewhere, got a picture in which it is too small or thin. Raise picture_size, or "
            "give it a larger mask."
        )
    return cells
