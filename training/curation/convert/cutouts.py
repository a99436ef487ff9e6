"""A person's own cut-outs as records: pictures whose alpha channel shows where the subject is.

    cutouts/teddy bear/1.png      the folder says what it is; its pictures show one thing
    cutouts/teddy bear 2/1.png    another teddy bear: numbers at the end are no part of a label
    cutouts/red_mug_03.png        without folders the name does; equal names show one thing
    cutouts/red_mug_03.txt        its caption, if there is one

# Shapes: H, W picture.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ...dataset.framing import mask_box
from ..record import FoundEntity, PictureSource, Record, label_span
from ..record_masks import run_lengths
from .conversion import Skipped, sample_key

SUFFIXES = (".png", ".webp", ".tif", ".tiff")
NUMBER = re.compile(r"[ _-]*\(?\d+\)?$")
OPAQUE = 128  # of 255: the alpha from which a pixel is the subject's


def convert_cutouts(
    folder: Path, caption: str = "a photo of a {label}"
) -> Iterator[Record | Skipped]:
    """A record of every cut-out below a folder, by name, and what could not be used.

    Args:
        caption: for pictures without a .txt file; ``{label}`` stands for what it is, and "" leaves
            the caption to the caption stage.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"--folder: expected a folder of cut-outs, got {folder}. Correct the path."
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise ValueError(f"--folder: expected cut-outs, got an empty {folder}. Put PNG files in.")
    keys: set[str] = set()
    for path in files:
        name = path.relative_to(folder).as_posix()
        is_text = path.suffix.lower() == ".txt"
        if is_text and any(path.with_suffix(suffix).is_file() for suffix in SUFFIXES):
            continue
        try:
            if path.suffix.lower() not in SUFFIXES:
                raise ValueError("no PNG, WebP or TIFF file")
            record = _convert(path, folder, caption)
        except ValueError as error:
            yield Skipped(where=name, reason=str(error))
            continue
        if record.key in keys:  # the same name with two suffixes
            record = replace(record, key=sample_key("cutout", name))
        keys.add(record.key)
        yield record


def identity_of(path: Path, folder: Path) -> str:
    """Which thing a cut-out shows: its folder's name, or its own without the number.

    >>> identity_of(Path("in/red_mug_03.png"), Path("in"))
    'red mug'
    >>> identity_of(Path("in/red mug 2/1.png"), Path("in"))
    'red mug 2'
    """
    inside = path.relative_to(folder).parent.name
    return (inside or NUMBER.sub("", path.stem)).replace("_", " ").replace("-", " ").strip()


def _convert(path: Path, folder: Path, template: str) -> Record:
    identity = identity_of(path, folder)
    label = NUMBER.sub("", identity).strip()
    if not label:
        raise ValueError("name without a label")
    mask = _opaque(path)
    box = mask_box(mask)
    if box is None:
        raise ValueError("empty or tiny alpha channel")
    caption = _caption(path) or template.replace("{label}", label) or None
    entity = FoundEntity(
        label=label,
        box_xyxy=box,
        span=label_span(label, caption),
        mask=run_lengths(mask),
        identity=identity,
    )
    return Record(
        key=sample_key("cutout", path.relative_to(folder).with_suffix("").as_posix()),
        picture=PictureSource(path=str(path)),
        provenance={"dataset": "cut-outs", "file": path.name},
        caption=caption,
        entities=(entity,),
    )


def _opaque(path: Path) -> np.ndarray:
    """(H, W) bool, where the picture as it is shown is opaque."""
    try:
        with Image.open(path) as file:
            if not file.has_transparency_data:
                raise ValueError("no transparency")
            alpha = ImageOps.exif_transpose(file).convert("RGBA").getchannel("A")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("unreadable picture") from error
    mask = np.asarray(alpha) >= OPAQUE
    if mask.all():
        raise ValueError("no transparency")
    return mask


def _caption(path: Path) -> str:
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8", errors="replace").strip() if text.is_file() else ""
