# Shapes: V views of one subject, P patch tokens, C their width, E width of the image embedding,
#         H, W any size.
"""Files of encoded subjects: what the image encoder said of them, so that it need not run again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..area_resize import area_resize
from ..errors import CheckpointError
from .safetensors_file import (
    read_metadata_entry,
    read_safetensors,
    require_finite,
    write_safetensors,
)

METADATA_KEY = "subject_diffusion_subjects"
FORMAT_VERSION = 1
THUMBNAIL_SIZE = 128
_HASHED_NUMBERS = 4096
_ADVICE = "Encode and save the subjects again."
_SETTINGS = ("label", "strength", "start_percent", "end_percent", "box")


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedSubject:
    """One subject as the file holds it.

    Attributes:
        patch_embeds: (V, P, C) patch tokens before the encoder's last norm.
        image_embeds: (V, E) pooled and projected.
        thumbnail: (H, W, 4) uint8, the first view on white and its mask, see `make_thumbnail`.
        region: (H, W) in 0..1 of the generated picture, or None.
        label, strength, start_percent, end_percent: the subject's settings.
        box: as users write it, {"x1": ..} in 0..1 or {"x": .., "width": ..} in pixels, or None.
    """

    patch_embeds: torch.Tensor
    image_embeds: torch.Tensor
    thumbnail: torch.Tensor
    region: torch.Tensor | None
    label: str
    strength: float
    start_percent: float
    end_percent: float
    box: Mapping[str, float] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class SubjectFile:
    """Several subjects that one encoder has seen.

    Attributes:
        encoder_hash: of the image encoder, see `hash_weights`.
        reference_size: side of the pictures that it saw, in pixels.
    """

    encoder_hash: str
    reference_size: int
    subjects: tuple[SavedSubject, ...]


def load(path: str | os.PathLike[str]) -> SubjectFile:
    """Read a file and check it completely.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind or version, holds NaN, or its
            tensors are not those that it describes.
    """
    tensors, metadata = read_safetensors(path, _ADVICE)
    text = read_metadata_entry(path, metadata, METADATA_KEY)
    try:
        description = json.loads(text)
        version = description["format_version"]
    except (ValueError, TypeError, KeyError):
        version, description = None, {}
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: expected a file of subjects of format version {FORMAT_VERSION}, got version "
            f"{version!r}. Update this node pack, or encode and save the subjects again."
        )
    try:
        return _from_parts(description, tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: expected the tensors and settings of its subjects, got a file that lacks "
            f"some of them or has others ({error}). {_ADVICE}"
        ) from error


def save(path: str | os.PathLike[str], file: SubjectFile) -> None:
    """Check and write a file atomically."""
    tensors: dict[str, torch.Tensor] = {}
    for index, subject in enumerate(file.subjects):
        tensors[f"{index}.patch_embeds"] = subject.patch_embeds
        tensors[f"{index}.image_embeds"] = subject.image_embeds
        tensors[f"{index}.thumbnail"] = subject.thumbnail
        if subject.region is not None:
            tensors[f"{index}.region"] = subject.region
    require_finite(str(path), tensors, "Look at the subjects' pictures, and encode them again.")
    num_patches, patch_dim = file.subjects[0].patch_embeds.shape[1:]
    description = {
        "format_version": FORMAT_VERSION,
        "encoder_hash": file.encoder_hash,
        "reference_size": file.reference_size,
        "num_patches": num_patches,
        "patch_dim": patch_dim,
        "image_embed_dim": file.subjects[0].image_embeds.shape[-1],
        "subjects": [{name: getattr(s, name) for name in _SETTINGS} for s in file.subjects],
    }
    write_safetensors(path, tensors, {METADATA_KEY: json.dumps(description)})


def hash_weights(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Tells image encoders apart by names, shapes and numbers of their weights.

    Numbers are rounded to half precision, in which ComfyUI may hold the same encoder; of large
    weights 4096 evenly spread ones count, so that the hash takes no time.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state_dict.items()):
        if not tensor.is_floating_point():
            continue
        digest.update(f"{name} {tuple(tensor.shape)} ".encode())
        step = max(1, tensor.numel() // _HASHED_NUMBERS)
        numbers = tensor.detach().flatten()[::step].cpu().float().half()
        digest.update(numbers.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def make_thumbnail(image: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """A small copy for previews: (H, W, 3) and (H, W) in 0..1 -> (h, w, 4) uint8, on white.

    The longer side has at most 128 pixels; the last channel is the mask, or 255 without one.

    >>> make_thumbnail(torch.zeros(4, 256, 3), None).shape
    torch.Size([2, 128, 4])
    """
    height, width = image.shape[:2]
    alpha = torch.ones(height, width) if mask is None else mask.float().clamp(0, 1)
    on_white = image.float().clamp(0, 1) * alpha[..., None] + (1 - alpha[..., None])
    scale = min(1.0, THUMBNAIL_SIZE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = area_resize(torch.cat((on_white, alpha[..., None]), dim=-1).movedim(-1, 0), *size)
    small[3] /= small[3].max()  # a thin subject stays visible
    return (small.movedim(0, -1) * 255).round().clamp(0, 255).byte()


def _from_parts(description: dict[str, Any], tensors: dict[str, torch.Tensor]) -> SubjectFile:
    """Raises KeyError, TypeError or ValueError if something does not fit."""
    sizes = [description[name] for name in ("num_patches", "patch_dim", "image_embed_dim")]
    subjects = tuple(
        _read_subject(index, settings, tensors, sizes)
        for index, settings in enumerate(description["subjects"])
    )
    if not subjects or tensors:
        raise ValueError(f"{len(subjects)} subjects, {len(tensors)} tensors of no subject")
    return SubjectFile(
        encoder_hash=str(description["encoder_hash"]),
        reference_size=int(description["reference_size"]),
        subjects=subjects,
    )


def _read_subject(
    index: int, settings: dict[str, Any], tensors: dict[str, torch.Tensor], sizes: list[int]
) -> SavedSubject:
    """Takes the subject's tensors out of `tensors`; sizes are P, C, E."""
    patches = tensors.pop(f"{index}.patch_embeds")
    embeds = tensors.pop(f"{index}.image_embeds")
    thumbnail = tensors.pop(f"{index}.thumbnail")
    region = tensors.pop(f"{index}.region", None)
    wanted = [(len(patches), sizes[0], sizes[1]), (len(patches), sizes[2])]
    if [tuple(patches.shape), tuple(embeds.shape)] != wanted or len(patches) == 0:
        raise ValueError(f"subject {index + 1} has embeddings of another shape")
    if thumbnail.ndim != 3 or thumbnail.shape[-1] != 4 or thumbnail.dtype != torch.uint8:
        raise ValueError(f"subject {index + 1} has no thumbnail")
    if region is not None and region.ndim != 2:
        raise ValueError(f"subject {index + 1} has a region of another shape")
    numbers = {name: float(settings[name]) for name in ("strength", "start_percent", "end_percent")}
    return SavedSubject(
        patch_embeds=patches,
        image_embeds=embeds,
        thumbnail=thumbnail,
        region=region,
        label=str(settings["label"]),
        box=settings["box"],
        **numbers,
    )
