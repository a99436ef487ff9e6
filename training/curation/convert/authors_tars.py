"""The paper's authors' own shards as records: a picture, its texts and one mask picture of indices.

Their tool writes KEY.jpg, KEY.txt (the old caption), KEY.json and KEY.png, where a pixel says which
subject covers it (so masks never overlap):

    {"caption": ..., "mask": [{"value": 0, "label": "background"},
                              {"value": 1, "label": "dog", "logit": .71, "box": [x1, y1, x2, y2]}]}

Their reader also takes shards made of COCO, ``{"bboxes": [...], "cat_names": [...]}``, where the
most frequent index inside a box is its subject's. Boxes are in pixels.
# Shapes: H, W picture.
"""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..record import FoundEntity, PictureSource, Record, RunLengths, label_span
from ..record_masks import run_lengths
from .conversion import Skipped, clipped_box, sample_key

PICTURES = ("jpg", "jpeg", "png", "webp")


@dataclass(frozen=True, kw_only=True)
class _Listed:
    """A subject as the JSON names it; value None = to be found inside the box."""

    label: Any
    box: Any
    score: Any
    value: int | None


def convert_authors_tars(tars: list[Path]) -> Iterator[Record | Skipped]:
    """Records of all samples of these .tar files, in order, and what could not be used.

    A file that ends early yields what stands before the damage.
    """
    for path in tars:
        if not path.is_file():
            raise FileNotFoundError(
                f"--tars: expected .tar files, got {path}, where nothing is. Correct the path."
            )
    for path in tars:
        for key, parts in _samples(path):
            if isinstance(parts, Skipped):
                yield parts
            else:
                yield from _convert_sample(path, key, parts)


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes] | Skipped]]:
    """Members that follow each other and have one name before the first dot."""
    current: str | None = None
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if current is not None and key != current:
                    yield current, parts
                    parts = {}
                current = key
                file = archive.extractfile(member) if member.isfile() else None
                if file is not None:
                    wanted = suffix.lower() in ("json", "png", "txt")
                    parts[suffix.lower()] = file.read() if wanted else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        yield "", Skipped(where=path.name, reason=f"damaged tar ({type(error).__name__})")
        return
    if current is not None and parts:
        yield current, parts


def _convert_sample(path: Path, key: str, parts: Mapping[str, bytes]) -> Iterator[Record | Skipped]:
    where = f"{path.name}: {key}"
    picture = next((suffix for suffix in PICTURES if suffix in parts and suffix != "png"), None)
    try:
        if picture is None:
            raise ValueError("picture missing")
        metadata = json.loads(parts["json"])
        listed, indices = _listed(metadata), _read_indices(parts["png"])
    except KeyError as error:
        yield Skipped(where=where, reason=f"{error.args[0]} missing")
        return
    except (ValueError, RecursionError) as error:
        reason = "unreadable json" if isinstance(error, json.JSONDecodeError) else str(error)
        yield Skipped(where=where, reason=reason)
        return
    old = parts.get("txt", b"").decode("utf-8", "replace").strip()
    caption = metadata.get("caption") or old or None
    caption = caption if isinstance(caption, str) else None
    entities: list[FoundEntity] = []
    for number, subject in enumerate(listed):
        try:
            entities.append(_convert_entity(subject, indices, caption))
        except ValueError as error:
            yield Skipped(where=f"{where}, subject {number}", reason=str(error))
    yield Record(
        key=sample_key(path.stem, key),
        picture=PictureSource(path=str(path), member=f"{key}.{picture}"),
        provenance={"dataset": "subject-diffusion", "tar": path.name, "old_caption": old},
        caption=caption,
        entities=tuple(entities),
    )


def _listed(metadata: Any) -> list[_Listed]:
    """The subjects of either kind of JSON."""
    if not isinstance(metadata, dict):
        raise ValueError("json of another kind")
    if isinstance(metadata.get("mask"), list):
        entries = [e for e in metadata["mask"] if isinstance(e, dict) and "box" in e]
        return [
            _Listed(
                label=e.get("label"), box=e["box"], score=e.get("logit", 1.0), value=e.get("value")
            )
            for e in entries
        ]
    boxes, names = metadata.get("bboxes"), metadata.get("cat_names")
    if not isinstance(boxes, list) or not isinstance(names, list) or len(boxes) != len(names):
        raise ValueError("json of another kind")
    pairs = zip(boxes, names, strict=True)
    return [_Listed(label=name, box=box, score=1.0, value=None) for box, name in pairs]


def _read_indices(content: bytes) -> np.ndarray:
    """(H, W) of which subject covers a pixel; 0 = none."""
    try:
        with Image.open(io.BytesIO(content)) as file:
            return np.asarray(file if file.mode in ("P", "L", "I;16", "I") else file.convert("L"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError("unreadable mask") from error


def _convert_entity(listed: _Listed, indices: np.ndarray, caption: str | None) -> FoundEntity:
    if not isinstance(listed.label, str) or not listed.label.strip():
        raise ValueError("empty label")
    if not isinstance(listed.box, list) or len(listed.box) != 4:
        raise ValueError("box is not four numbers")
    numbers = (*listed.box, listed.score)
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers):
        raise ValueError("box or score is not a number")
    height, width = indices.shape
    x1, y1, x2, y2 = (float(value) for value in listed.box)
    box = clipped_box(x1 / width, y1 / height, x2 / width, y2 / height)
    if box is None:
        raise ValueError("box outside the picture")
    label = listed.label.strip()
    return FoundEntity(
        label=label,
        box_xyxy=box,
        span=label_span(label, caption),
        score=float(listed.score),
        mask=_mask(indices, listed.value, (x1, y1, x2, y2)),
    )


def _mask(indices: np.ndarray, value: object, box: tuple[float, float, float, float]) -> RunLengths:
    """The pixels of an index; of None, of the most frequent one in the box (in pixels)."""
    if value is None:
        x1, y1, x2, y2 = (max(0, int(v)) for v in box)
        inside = indices[y1:y2, x1:x2]
        found, counts = np.unique(inside[inside > 0], return_counts=True)
        if len(found) == 0:
            raise ValueError("empty mask")
        value = int(found[counts.argmax()])
    if not isinstance(value, int) or value < 1:
        raise ValueError("index is not 1 or more")
    mask = indices == value
    if not mask.any():
        raise ValueError("empty mask")
    return run_lengths(mask)
