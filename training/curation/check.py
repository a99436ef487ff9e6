"""The first stage: does a picture decode, how large is it, what are its hashes.

What can be mended is mended and told in ``adjustments``; what cannot is quarantined with a reason
of :data:`training.curation.pictures.REASONS`. Nothing raises.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from PIL import Image

from .annotations import fitted
from .pictures import (
    SUFFIXES,
    BadPicture,
    decode,
    is_transparent,
    open_picture,
    orientation,
    read_bytes,
)
from .record import Quarantined, Record

SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")


def check(record: Record) -> Record | Quarantined:
    """The record with hashes and size, boxes and masks turned to what is shown.

    ``record.annotated_as_stored`` says that its boxes and masks lie on the stored pixels, before
    the camera's orientation; afterwards they lie on what is shown, like all others.
    """
    try:
        content = read_bytes(record.picture)
        picture = open_picture(content)
        turned = orientation(picture)
        shown = decode(picture)
        checked = replace(
            record,
            content_hash=hashlib.sha256(content).hexdigest(),
            perceptual_hash=perceptual_hash(shown),
            width=shown.width,
            height=shown.height,
            adjustments=tuple(
                adjustments(record.picture.member or record.picture.path, picture, turned)
            ),
        )
        return fitted(checked, picture, turned or 1)
    except BadPicture as bad:
        return Quarantined(
            key=record.key, picture=record.picture, reason=bad.reason, detail=bad.detail
        )


def perceptual_hash(picture: Image.Image) -> str:
    """64 bits of the lowest frequencies (pHash) as 16 hex digits."""
    import imagehash

    return str(imagehash.phash(picture))


def adjustments(name: str, picture: Image.Image, turned: int | None) -> list[str]:
    """What was done to a loaded picture on its way to upright RGB of 8 bits.

    ``turned`` is its orientation before it was loaded, None where it is broken.
    """
    found = []
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
