"""Writing a shard: samples as files of a .tar, equal ones for equal samples."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..runs import atomic_path
from .layout import Entity


def write_shard(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """A .tar file of (name, content), on the disk whole or not at all."""
    with atomic_path(path) as temporary:
        with tarfile.open(temporary, "w") as archive:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())


def note_path(shard: Path) -> Path:
    """The file beside a shard that says what it was made from."""
    return shard.with_suffix(".made.json")


def read_note(shard: Path) -> dict[str, Any]:
    """What :func:`note_path` says; {} where it says nothing."""
    try:
        return dict(json.loads(note_path(shard).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def described(
    key: str, caption: str, entities: Iterable[Entity], **more: Any
) -> Iterator[tuple[str, bytes]]:
    """KEY.json and KEY.mask0.png ... of a sample; ``more`` goes into its metadata."""
    entries = []
    for number, entity in enumerate(entities):
        mask = f"mask{number}.png"
        entry = {"label": entity.label, "box": list(entity.box_xyxy), "mask": mask}
        entries.append({**entry, "identity": entity.identity})
        yield f"{key}.{mask}", encode_picture(entity.mask, "PNG")
    metadata = {"caption": caption, "entities": entries, **more}
    yield f"{key}.json", json.dumps(metadata).encode()


def encode_picture(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    """The file of (H, W, 3 or 4) uint8, or a 1-bit one of (H, W) bool, with Pillow's options."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()
