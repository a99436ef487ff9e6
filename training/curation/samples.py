"""From a kept record to the files of a training sample (schema 2 of dataset/layout.py)."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

from ..dataset.bad_sample import BadSample
from ..dataset.layout import decode_sample
from .pictures import BadPicture, decode, open_picture, read_bytes
from .record import FoundEntity, Record, label_span

SCHEMA = 2
JPEG_QUALITY = 95
STORED_AS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


def sample_text(record: Record) -> str:
    """KEY.json: caption, subjects, where it is from, what was measured."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "caption": record.caption or "",
            "entities": [_entry(entity, record.caption or "") for entity in record.entities or ()],
            "width": record.width,
            "height": record.height,
            "licence": record.licence,
            "provenance": dict(record.provenance),
            "adjustments": list(record.adjustments),
            "content_hash": record.content_hash,
            "perceptual_hash": record.perceptual_hash,
        },
        sort_keys=True,
        ensure_ascii=False,
    )


def _entry(entity: FoundEntity, caption: str) -> dict[str, Any]:
    mask = entity.mask
    assert mask is not None, "make the masks first"
    x1, y1, x2, y2 = entity.box_xyxy
    span = entity.span or label_span(entity.label, caption)
    return {
        "label": entity.label,
        "span": None if span is None else list(span),
        "box": list(entity.box_xyxy),
        "score": entity.score,
        "area": (x2 - x1) * (y2 - y1),
        "rle": {"size": [mask.height, mask.width], "counts": mask.counts},
        "identity": entity.identity,
    }


def sample_members(record: Record) -> dict[str, bytes]:
    """Suffix -> content, read back once as training will read it.

    Raises ValueError where the picture is not the one that was checked, BadSample where the sample
    is not what training takes.
    """
    try:
        content = read_bytes(record.picture)
    except BadPicture as bad:
        raise _changed(record, bad.reason) from bad
    if hashlib.sha256(content).hexdigest() != record.content_hash:
        raise _changed(record, "other bytes")
    suffix, stored = stored_picture(content, record.adjustments)
    members = {suffix: stored, "json": sample_text(record).encode()}
    sample = decode_sample(record.key, members, with_picture=False)
    size = (record.height, record.width)
    if any(entity.mask.shape != size for entity in sample.entities):
        raise BadSample("mask of another size")
    return members


def stored_picture(content: bytes, adjustments: tuple[str, ...]) -> tuple[str, bytes]:
    """Suffix and bytes: those of the file where it shows what was checked, else made anew, a JPEG
    or WebP as JPEG, others without loss."""
    picture = open_picture(content)
    kind = "JPEG" if picture.format == "MPO" else str(picture.format)
    harmless = ("broken orientation ignored", f"{picture.format} under another suffix")
    if kind in STORED_AS and not set(adjustments) - set(harmless):
        return STORED_AS[kind], content
    lossy = kind in ("JPEG", "WEBP")
    buffer = io.BytesIO()
    options: dict[str, Any] = {"quality": JPEG_QUALITY, "subsampling": 0} if lossy else {}
    decode(picture).save(buffer, "JPEG" if lossy else "PNG", **options)
    return ("jpg" if lossy else "png"), buffer.getvalue()


def _changed(record: Record, how: str) -> ValueError:
    return ValueError(
        f"--pictures: expected {record.picture.member or record.picture.path} as it was checked, "
        f"got {how}: it changed since. Run the same command again."
    )
