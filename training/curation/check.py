"""The first stage: does a picture decode, how large is it, what are its hashes.

What can be mended is mended and told in ``adjustments``; what cannot is quarantined with a reason
of :data:`training.curation.pictures.REASONS`. Nothing raises.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..dataset.bad_sample import BadSample
from .pictures import (
    SUFFIXES,
    TURNS,
    BadPicture,
    decode,
    is_transparent,
    open_picture,
    orientation,
    read_bytes,
)
from .record import FoundEntity, Quarantined, Record, RunLengths
from .record_masks import area_of, pixels_of, run_lengths

Box = tuple[float, float, float, float]
SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


def check(record: Record) -> Record | Quarantined:
    """The record with hashes and size, boxes and masks turned to what is shown.

    ``record.annotated_as_stored`` says that its boxes and masks lie on the stored pixels, before
    the camera's orientation; afterwards they lie on what is shown, like all others.
    """
    try:
        content = read_bytes(record.picture)
        picture = open_picture(content)
        shown = decode(picture)
        checked = replace(
            record,
            content_hash=hashlib.sha256(content).hexdigest(),
            perceptual_hash=perceptual_hash(shown),
            width=shown.width,
            height=shown.height,
            adjustments=tuple(adjustments(record.picture.member or record.picture.path, picture)),
        )
        return _with_fitting_annotations(checked, orientation(picture) or 1)
    except BadPicture as bad:
        return Quarantined(
            key=record.key, picture=record.picture, reason=bad.reason, detail=bad.detail
        )


def perceptual_hash(picture: Image.Image) -> str:
    """64 bits of the lowest frequencies (pHash) as 16 hex digits."""
    import imagehash

    return str(imagehash.phash(picture))


def adjustments(name: str, picture: Image.Image) -> list[str]:
    """What was done to a loaded picture on its way to upright RGB of 8 bits."""
    found = []
    turned = orientation(picture)
    if turned is None:
        found.append("broken orientation ignored")
    elif turned > 1:
        found.append(f"turned from orientation {turned}")
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        found.append("first of several frames")
    if picture.mode in SIXTEEN_BITS:
        found.append("16 bits to 8")
    elif is_transparent(picture):
        found.append("transparent parts on white")
    elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        found.append(f"{picture.mode} to RGB")
    suffix = Path(name).suffix.lower()
    if suffix not in SUFFIXES[picture.format or ""]:
        found.append(f"{picture.format} under another suffix")
    return found


def _with_fitting_annotations(record: Record, turned: int) -> Record:
    if record.entities is None:
        return replace(record, annotated_as_stored=False)
    if record.annotated_as_stored and turned > 1:
        entities = tuple(_turned(entity, turned) for entity in record.entities)
        record = replace(record, entities=entities)
    for entity in record.entities or ():
        _require_fit(entity, record)
    return replace(record, annotated_as_stored=False)


def _require_fit(entity: FoundEntity, record: Record) -> None:
    x1, y1, x2, y2 = entity.box_xyxy
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise BadPicture("annotations", f"the box {entity.box_xyxy} of {entity.label!r}")
    if not entity.label.strip():
        raise BadPicture("annotations", "an empty label")
    mask = entity.mask
    if mask is None:
        return
    if (mask.height, mask.width) != (record.height, record.width):
        raise BadPicture(
            "annotations",
            f"a mask of {mask.width} x {mask.height} for {record.width} x {record.height}",
        )
    try:
        pixels = area_of(mask)
    except BadSample as error:
        raise BadPicture("annotations", f"{error} of {entity.label!r}") from error
    if pixels == 0:
        raise BadPicture("annotations", f"an empty mask of {entity.label!r}")


def _turned(entity: FoundEntity, orientation: int) -> FoundEntity:
    """The entity on the picture as it is shown."""
    mask = entity.mask
    return replace(
        entity,
        box_xyxy=turned_box(entity.box_xyxy, orientation),
        mask=None if mask is None else turned_mask(mask, orientation),
    )


def turned_box(box: Box, orientation: int) -> Box:
    """A box in 0..1 of the stored pixels, as a box of what is shown.

    >>> turned_box((0.0, 0.0, 0.25, 0.5), 6)
    (0.5, 0.0, 1.0, 0.25)
    """
    x1, y1, x2, y2 = box
    if orientation in (2, 3, 7, 8):
        x1, x2 = 1 - x2, 1 - x1
    if orientation in (3, 4, 6, 7):
        y1, y2 = 1 - y2, 1 - y1
    return (y1, x1, y2, x2) if orientation >= 5 else (x1, y1, x2, y2)


def turned_mask(mask: RunLengths, orientation: int) -> RunLengths:
    """A mask of the stored pixels, as one of what is shown."""
    try:
        pixels = pixels_of(mask)
    except BadSample as error:
        raise BadPicture("annotations", str(error)) from error
    shown = np.asarray(Image.fromarray(pixels).transpose(TURNS[orientation]))
    return run_lengths(shown)
