"""A person's own pictures: a JSONL file that names pictures, masks, labels and captions.

    {"picture": "rex1.jpg", "caption": "a dog on a beach",
     "subjects": [{"label": "dog", "mask": "rex1_mask.png", "identity": "rex"}]}

Paths are relative to the file. A mask is white where the subject is; without one, the picture's own
alpha channel serves. The identity says that two pictures show the same thing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .bad_sample import BadSample
from .framing import mask_box
from .layout import Entity


@dataclass(frozen=True, kw_only=True)
class ListedSubject:
    """A subject of a listed picture; mask None = the picture's alpha channel."""

    label: str
    mask: Path | None
    identity: str


@dataclass(frozen=True, kw_only=True)
class ListedPicture:
    """A line of the file. ``number`` counts lines from 1."""

    number: int
    picture: Path
    caption: str
    subjects: tuple[ListedSubject, ...]

    def files(self) -> list[Path]:
        """The picture and its masks."""
        return [self.picture, *(s.mask for s in self.subjects if s.mask is not None)]

    def unnamed_labels(self) -> list[str]:
        """Labels that the caption does not contain."""
        caption = self.caption.lower()
        return [s.label for s in self.subjects if s.label.lower() not in caption]


def read_list(path: Path) -> list[ListedPicture]:
    """All lines of a JSONL file; a wrong one ends with its number and what it lacks."""
    if not path.is_file():
        raise FileNotFoundError(
            f"--jsonl: expected a JSONL file with one picture a line, got {path}, where nothing "
            "is. See `python -m training precompute --help` for the lines."
        )
    pictures = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            pictures.append(_read_line(path, number, line))
    if not pictures:
        raise ValueError(f"--jsonl: expected at least one picture, got an empty {path}. Fill it.")
    return pictures


def _read_line(path: Path, number: int, line: str) -> ListedPicture:
    try:
        entry = json.loads(line)
        subjects = tuple(_read_subject(path.parent, subject) for subject in entry["subjects"])
        picture = ListedPicture(
            number=number,
            picture=path.parent / entry["picture"],
            caption=str(entry["caption"]),
            subjects=subjects,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"--jsonl: expected picture, caption and subjects with label in line {number}, got "
            f"{line[:60]!r} ({type(error).__name__}: {error}). Correct the line."
        ) from error
    if not subjects:
        raise ValueError(
            f"--jsonl: expected at least one subject in line {number}, got none. Name one, or "
            "remove the line."
        )
    return picture


def _read_subject(folder: Path, entry: dict[str, Any]) -> ListedSubject:
    label = entry["label"].strip()
    if not label:
        raise ValueError("empty label")
    mask = entry.get("mask")
    return ListedSubject(
        label=label, mask=folder / mask if mask else None, identity=str(entry.get("identity", ""))
    )


def load_picture(listed: ListedPicture) -> tuple[np.ndarray, tuple[Entity, ...]]:
    """Pixels (H, W, 3) uint8, transparent parts on white, and the subjects with masks and boxes."""
    rgba = _open(listed.picture, "RGBA", "picture")
    alpha = rgba[..., 3:] / 255
    image = np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    entities = []
    for subject in listed.subjects:
        if subject.mask is None and rgba[..., 3].min() == 255:
            raise BadSample(f"neither mask nor transparency for {subject.label!r}")
        given = rgba[..., 3] if subject.mask is None else _open(subject.mask, "L", "mask")
        mask = given >= 128
        if mask.shape != image.shape[:2]:
            raise BadSample(f"mask {subject.mask} of another size")
        box = mask_box(mask)
        if box is None:
            raise BadSample(f"empty or tiny mask of {subject.label!r}")
        entities.append(
            Entity(label=subject.label, box_xyxy=box, mask=mask, identity=subject.identity)
        )
    return image, tuple(entities)


def _open(path: Path, mode: str, what: str) -> np.ndarray:
    """A file's pixels, turned as its camera says."""
    try:
        with Image.open(path) as file:
            return np.asarray(ImageOps.exif_transpose(file).convert(mode))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadSample(f"unreadable {what} {path.name}") from error


def split_held_out(
    pictures: list[ListedPicture], count: int | None
) -> tuple[list[ListedPicture], list[ListedPicture]]:
    """Pictures to train on, and those that show one of ``count`` held-out subjects.

    Which ones is decided by a hash of identity or path; None takes one in ten, at most four.
    """
    names = sorted(
        {name for p in pictures for name in _identities(p)},
        key=lambda name: hashlib.sha256(name.encode()).hexdigest(),
    )
    wanted = min(4, len(names) // 10) if count is None else count
    if wanted >= len(names) and wanted > 0:
        raise ValueError(
            f"--held-out: expected fewer than the {len(names)} subjects of the list, got {wanted}. "
            "Lower it, or add pictures."
        )
    chosen = set(names[:wanted])
    held_out = [p for p in pictures if chosen & set(_identities(p))]
    return [p for p in pictures if not chosen & set(_identities(p))], held_out


def _identities(picture: ListedPicture) -> list[str]:
    return [s.identity or str(picture.picture) for s in picture.subjects]
