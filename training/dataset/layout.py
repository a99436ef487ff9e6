"""The layout of a training sample in a webdataset shard, and reading one.

    KEY.jpg | KEY.png | KEY.webp   the picture
    KEY.json                       caption, entities (label, box, mask or rle, identity), features
    KEY.mask0.png ...              one mask per entity, as large as the picture, white = subject;
                                   none for an entity with rle: COCO's run lengths, in the JSON
    KEY.features.safetensors       optional: latents, patch_embeds, image_embeds, computed before

Boxes are x1 y1 x2 y2 in 0..1 of the picture. An identity is any text; two entities with the same
one show the same thing, and then training takes its reference from the other picture.
# Shapes: H, W picture; V variants of a reference, S entities, P patch tokens, c latent channels.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from .bad_sample import BadSample
from .features import Features
from .members import Members
from .run_lengths import decode_mask

PICTURE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
FEATURES = "features.safetensors"
SCHEMAS = (1, 2)  # of KEY.json; 2: as the dataset pipeline writes it


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A subject of a sample: box x1 y1 x2 y2 in 0..1, mask (H, W) bool of its visible pixels."""

    label: str
    box_xyxy: tuple[float, float, float, float]
    mask: np.ndarray
    identity: str
    cutout: int = -1
    flipped: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainingSample:
    """A picture with its caption and subjects.

    Attributes:
        image: (H, W, 3) uint8, or None where it was not asked for.
        features: what was computed before, or None.
    """

    key: str
    caption: str
    entities: tuple[Entity, ...]
    image: np.ndarray | None
    features: Features | None

    @property
    def pixels(self) -> np.ndarray:
        """The picture, of a sample that was read with it."""
        assert self.image is not None
        return self.image


def decode_picture(content: bytes, mode: str) -> np.ndarray:
    """Pixels of a picture; BadSample("unreadable picture") where it is none."""
    try:
        return np.asarray(Image.open(io.BytesIO(content)).convert(mode))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadSample("unreadable picture") from error


def decode_entity(raw: Mapping[str, bytes], entry: Any, shape: tuple[int, int] | None) -> Entity:
    """One entity of a sample's metadata, checked against its picture's (H, W) if given."""
    box = entry.get("box")
    if not isinstance(box, list) or len(box) != 4:
        raise BadSample("box is not four numbers")
    if not all(isinstance(v, int | float) for v in box):
        raise BadSample("box is not four numbers")
    x1, y1, x2, y2 = (float(v) for v in box)
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise BadSample("box outside the picture")
    mask = _decode_mask(raw, entry)
    if shape is not None and mask.shape != shape:
        raise BadSample("mask of another size")
    return Entity(
        label=entry["label"],
        box_xyxy=(x1, y1, x2, y2),
        mask=mask,
        identity=_of_type(entry, "identity", str, ""),
        cutout=_of_type(entry, "cutout", int, -1),
        flipped=bool(entry.get("flipped", False)),
    )


def _decode_mask(raw: Mapping[str, bytes], entry: Any) -> np.ndarray:
    """From the entry's run lengths, or from the mask picture that it names."""
    rle = entry.get("rle")
    if rle is None:
        if entry.get("mask") not in raw:
            raise BadSample("mask missing")
        return decode_picture(raw[entry["mask"]], "L") >= 128
    try:
        height, width = rle["size"]
        return decode_mask((int(height), int(width)), str(rle["counts"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadSample("unreadable mask") from error


def _of_type(entry: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    value = entry.get(name, default)
    if not isinstance(value, kind):
        raise BadSample(f"{name} of another kind")
    return value


def decode_metadata(raw: Mapping[str, bytes]) -> dict[str, Any]:
    """The sample's JSON with its caption and at least one entity."""
    if "json" not in raw:
        raise BadSample("metadata missing")
    try:
        metadata = json.loads(raw["json"])
        caption, entries = metadata["caption"], metadata["entities"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadSample("metadata incomplete") from error
    if not isinstance(caption, str) or not isinstance(entries, list):
        raise BadSample("metadata incomplete")
    if metadata.get("schema", 1) not in SCHEMAS:
        raise BadSample("schema of a newer version")
    if not entries:
        raise BadSample("no subjects")
    return dict(metadata)


def decode_sample(key: str, raw: Mapping[str, bytes], with_picture: bool = True) -> TrainingSample:
    """A sample from its members by suffix; raises BadSample with a fixed, countable reason."""
    metadata = decode_metadata(raw)
    image = None
    if with_picture:
        content = next((raw[s] for s in PICTURE_SUFFIXES if s in raw), None)
        if content is None:
            raise BadSample("picture missing")
        image = decode_picture(content, "RGB")
    shape = None if image is None else image.shape[:2]
    try:
        entities = tuple(decode_entity(raw, entry, shape) for entry in metadata["entities"])
        if not all(isinstance(e.label, str) and e.label.strip() for e in entities):
            raise BadSample("empty label")
        if len({entity.mask.shape for entity in entities}) > 1:
            raise BadSample("mask of another size")
    except (KeyError, TypeError, AttributeError) as error:
        raise BadSample("metadata incomplete") from error
    return TrainingSample(
        key=key,
        caption=metadata["caption"],
        entities=entities,
        image=image,
        features=decode_features(raw),
    )


def decode_features(raw: Mapping[str, bytes]) -> Features | None:
    """The precomputed tensors, if there are any; nothing of them is read yet."""
    if FEATURES not in raw:
        return None
    if isinstance(raw, Members):
        return Features(partial(raw.part, FEATURES))
    content = raw[FEATURES]
    return Features(lambda offset, size: content[offset : offset + size])
