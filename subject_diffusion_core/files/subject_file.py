# Shapes: V views of one subject, P patch tokens, C their width, E width of the image embedding,
#         H, W any size.
"""Files of encoded subjects: what the image encoder said of them, so that it need not run again.

Format version 1 holds patch_embeds and image_embeds, version 2 any tensors and the pictures; what
fits into version 1 is written as such, for older readers.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..area_resize import area_resize
from ..errors import CheckpointError, reason_of
from ..schema import printed
from .header import read_header
from .safetensors_file import read_tensors, require_finite, write_safetensors
from .subject_limits import require_limits

METADATA_KEY = "subject_diffusion_subjects"
FORMAT_VERSIONS = (1, 2)
THUMBNAIL_SIZE = 128
_HASHED_NUMBERS = 4096
_ADVICE = "Encode and save the subjects again."
_SETTINGS = ("label", "strength", "start_percent", "end_percent", "box")


@dataclass(frozen=True, kw_only=True, eq=False)
class SavedSubject:
    """One subject as the file holds it.

    Attributes:
        embeds: name -> (V, ...) floating point. Subject-Diffusion's are patch_embeds (V, P, C),
            patch tokens before the encoder's last norm, and image_embeds (V, E), pooled and
            projected.
        pictures: (V, H, W, 4) uint8, the views and their masks, for methods that need pixels; or
            None.
        thumbnail: (H, W, 4) uint8, the first view on white and its mask, see `make_thumbnail`.
        region: (H, W) in 0..1 of the generated picture, or None.
        label, strength, start_percent, end_percent: the subject's settings.
        box: as users write it, {"x1": ..} in 0..1 or {"x": .., "width": ..} in pixels, or None.
    """

    embeds: Mapping[str, torch.Tensor]
    pictures: torch.Tensor | None = None
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
    header = read_header(path)
    text = header.require_metadata(METADATA_KEY)
    try:
        description = json.loads(text)
        version = description["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        version, description = None, {}
    if not isinstance(version, int) or version not in FORMAT_VERSIONS:
        raise CheckpointError(
            f"{path}: expected a file of subjects of format version 1 or 2, got version "
            f"{printed(version)}. Update this node pack, or encode and save the subjects again."
        )
    shapes = {name: info.shape for name, info in header.tensors.items()}
    require_limits(str(path), description, shapes, _ADVICE.removesuffix("."))
    return _from_parts(path, description, read_tensors(header, _ADVICE))


def save(path: str | os.PathLike[str], file: SubjectFile, exclusive: bool = False) -> None:
    """Check and write a file atomically.

    Args:
        exclusive: raise FileExistsError where there is a file of this name already.
    """
    description, tensors = _describe(file), _tensors(file)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    require_limits(str(path), description, shapes, "Correct the subjects")
    require_finite(str(path), tensors, "Look at the subjects' pictures, and encode them again.")
    _from_parts(path, description, dict(tensors))
    if _is_plain(description):
        description = _to_plain(description)
    write_safetensors(path, tensors, {METADATA_KEY: json.dumps(description)}, exclusive)


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
    image = image.float().cpu().clamp(0, 1)
    alpha = torch.ones(height, width) if mask is None else mask.float().cpu().clamp(0, 1)
    on_white = image * alpha[..., None] + (1 - alpha[..., None])
    scale = min(1.0, THUMBNAIL_SIZE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = area_resize(torch.cat((on_white, alpha[..., None]), dim=-1).movedim(-1, 0), *size)
    small[3] /= small[3].max()  # a thin subject stays visible
    return (small.movedim(0, -1) * 255).round().clamp(0, 255).byte()


def _describe(file: SubjectFile) -> dict[str, Any]:
    """The description in format version 2: shapes of all embeddings and pictures."""
    subjects = [
        {
            **{name: getattr(subject, name) for name in _SETTINGS},
            "embeds": {name: list(tensor.shape) for name, tensor in subject.embeds.items()},
            "pictures": None if subject.pictures is None else list(subject.pictures.shape),
        }
        for subject in file.subjects
    ]
    return {
        "format_version": 2,
        "encoder_hash": file.encoder_hash,
        "reference_size": file.reference_size,
        "subjects": subjects,
    }


def _is_plain(description: Mapping[str, Any]) -> bool:
    """Whether format version 1 can say it."""
    first, *others = (
        ({name: shape[1:] for name, shape in subject["embeds"].items()}, subject["pictures"])
        for subject in description["subjects"]
    )
    dimensions = {name: len(shape) for name, shape in first[0].items()}
    is_of_kind = dimensions == {"patch_embeds": 2, "image_embeds": 1} and first[1] is None
    return is_of_kind and all(other == first for other in others)


def _to_plain(description: Mapping[str, Any]) -> dict[str, Any]:
    """Format version 2 -> 1."""
    shapes = description["subjects"][0]["embeds"]
    _, num_patches, patch_dim = shapes["patch_embeds"]
    return {
        "format_version": 1,
        "encoder_hash": description["encoder_hash"],
        "reference_size": description["reference_size"],
        "num_patches": num_patches,
        "patch_dim": patch_dim,
        "image_embed_dim": shapes["image_embeds"][-1],
        "subjects": [{name: s[name] for name in _SETTINGS} for s in description["subjects"]],
    }


def _from_plain(
    description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    """Format version 1 -> 2; version 1 does not say how many views a subject has."""
    patch_shape = [description["num_patches"], description["patch_dim"]]
    subjects = []
    for index, settings in enumerate(description["subjects"]):
        views = len(tensors[f"{index}.patch_embeds"])
        embeds = {
            "patch_embeds": [views, *patch_shape],
            "image_embeds": [views, description["image_embed_dim"]],
        }
        subjects.append({**settings, "embeds": embeds, "pictures": None})
    return {**description, "subjects": subjects}


def _tensors(file: SubjectFile) -> dict[str, torch.Tensor]:
    """All tensors under their names in the file."""
    tensors: dict[str, torch.Tensor] = {}
    for index, subject in enumerate(file.subjects):
        own = {"thumbnail": subject.thumbnail}
        optional = {"region": subject.region, "pictures": subject.pictures}
        own |= {name: tensor for name, tensor in optional.items() if tensor is not None}
        tensors |= {f"{index}.{name}": tensor for name, tensor in {**subject.embeds, **own}.items()}
    return tensors


def _from_parts(
    path: str | os.PathLike[str], description: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> SubjectFile:
    """Takes everything out of `tensors`."""
    try:
        if description["format_version"] == 1:
            description = _from_plain(description, tensors)
        subjects = tuple(
            _read_subject(index, settings, tensors)
            for index, settings in enumerate(description["subjects"])
        )
        if not subjects or tensors:
            raise ValueError(f"{len(subjects)} subjects, {len(tensors)} tensors of no subject")
        return SubjectFile(
            encoder_hash=str(description["encoder_hash"]),
            reference_size=int(description["reference_size"]),
            subjects=subjects,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: expected the tensors and settings of its subjects, got a file that lacks "
            f"some of them or has others ({reason_of(error)}). {_ADVICE}"
        ) from error


def _read_subject(
    index: int, settings: Mapping[str, Any], tensors: dict[str, torch.Tensor]
) -> SavedSubject:
    """Takes the subject's tensors out of `tensors`; raises LookupError, TypeError, ValueError or
    AttributeError if something does not fit."""
    shapes, pictures_shape = settings["embeds"], settings["pictures"]
    numbers = {name: float(settings[name]) for name in ("strength", "start_percent", "end_percent")}
    subject = SavedSubject(
        embeds={name: tensors.pop(f"{index}.{name}") for name in shapes},
        pictures=None if pictures_shape is None else tensors.pop(f"{index}.pictures"),
        thumbnail=tensors.pop(f"{index}.thumbnail"),
        region=tensors.pop(f"{index}.region", None),
        label=str(settings["label"]),
        box=settings["box"],
        **numbers,
    )
    for name, fits in _fits(subject, shapes, pictures_shape).items():
        if not fits:
            raise ValueError(f"subject {index + 1} has {name}")
    return subject


def _fits(
    subject: SavedSubject, shapes: Mapping[str, list[int]], pictures_shape: list[int] | None
) -> dict[str, bool]:
    """What is wrong with the subject unless the tensors are as described and of the same views."""
    embeds, pictures = subject.embeds, subject.pictures
    views = {shape[0] for shape in shapes.values()}
    are_embeds = all(
        t.is_floating_point() and list(t.shape) == shapes[n] for n, t in embeds.items()
    )
    are_pictures = pictures is None or (
        list(pictures.shape) == pictures_shape
        and _are_pixels(pictures, 4)
        and len(pictures) in views
    )
    return {
        "embeddings of another shape": are_embeds and len(views) == 1 and 0 not in views,
        "pictures of another shape": are_pictures,
        "no thumbnail": _are_pixels(subject.thumbnail, 3),
        "a region of another shape": subject.region is None or subject.region.ndim == 2,
    }


def _are_pixels(tensor: torch.Tensor, ndim: int) -> bool:
    return tensor.ndim == ndim and tensor.shape[-1] == 4 and tensor.dtype == torch.uint8
