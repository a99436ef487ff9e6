"""The boxes and masks that come with a picture: read, turned with it, held against it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image

from ..dataset.bad_sample import BadSample
from .pictures import TURNS, BadPicture, open_picture, orientation, read_bytes
from .record import ALPHA, NO_BOX, FoundEntity, PictureSource, Record, RunLengths
from .record_masks import area_of, pixels_of, run_lengths

Box = tuple[float, float, float, float]


def fitted(record: Record, picture: Image.Image, turned: int) -> Record:
    """The record with every box and mask on what is shown; raises BadPicture.

    Args:
        record: with its width and height. picture: loaded. turned: its orientation before that.
    """
    entities = record.entities
    if entities is not None:
        if record.annotated_as_stored and turned > 1:
            entities = tuple(_turned(entity, turned) for entity in entities)
        size = (record.height or 0, record.width or 0)
        entities = tuple(_with_mask(entity, picture, turned, size) for entity in entities)
        for entity in entities:
            _require_fit(entity, size)
    return replace(record, entities=entities, annotated_as_stored=False)


def _with_mask(
    entity: FoundEntity, picture: Image.Image, turned: int, size: tuple[int, int]
) -> FoundEntity:
    """The entity with the mask of its ``mask_source``, and its mask's box where it has none."""
    mask = entity.mask
    if entity.mask_source:
        mask = run_lengths(_read_mask(entity, picture, turned, size))
    box = entity.box_xyxy
    if box == NO_BOX:
        box = _mask_box(entity, mask)
    return replace(entity, mask=mask, mask_source="", box_xyxy=box)


def _read_mask(
    entity: FoundEntity, picture: Image.Image, turned: int, size: tuple[int, int]
) -> np.ndarray:
    """(H, W) bool. A mask that fits the stored pixels and not what is shown is turned, too."""
    if entity.mask_source == ALPHA:
        if not picture.has_transparency_data:
            raise BadPicture("annotations", f"neither mask nor alpha channel for {entity.label!r}")
        mask = np.asarray(picture.convert("RGBA").getchannel("A")) >= 128
        return _transposed(mask, orientation(picture) or 1)
    stored = open_picture(read_bytes(PictureSource(path=entity.mask_source)))
    try:
        grey = stored.convert("L")
    except Exception as error:  # a decoder's own faults on broken files are of any kind
        raise BadPicture("damaged", f"{entity.mask_source}: {error}") from error
    own = orientation(stored) or 1
    mask = _transposed(np.asarray(grey) >= 128, own)
    if own == 1 and mask.shape != size:
        mask = _transposed(mask, turned)
    return mask


def _transposed(mask: np.ndarray, turned: int) -> np.ndarray:
    if turned == 1:
        return mask
    return np.asarray(Image.fromarray(mask).transpose(TURNS[turned]))


def _mask_box(entity: FoundEntity, mask: RunLengths | None) -> Box:
    """The smallest box around a mask, in 0..1."""
    if mask is None:
        raise BadPicture("annotations", f"neither box nor mask of {entity.label!r}")
    try:
        pixels = pixels_of(mask)
    except BadSample as error:
        raise BadPicture("annotations", f"{error} of {entity.label!r}") from error
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if len(rows) == 0:
        raise BadPicture("annotations", f"an empty mask of {entity.label!r}")
    return (
        float(columns[0] / mask.width), float(rows[0] / mask.height),
        float((columns[-1] + 1) / mask.width), float((rows[-1] + 1) / mask.height),
    )  # fmt: skip


def _require_fit(entity: FoundEntity, size: tuple[int, int]) -> None:
    x1, y1, x2, y2 = entity.box_xyxy
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise BadPicture("annotations", f"the box {entity.box_xyxy} of {entity.label!r}")
    if not entity.label.strip():
        raise BadPicture("annotations", "an empty label")
    mask = entity.mask
    if mask is None:
        return
    if (mask.height, mask.width) != size:
        raise BadPicture(
            "annotations", f"a mask of {mask.width} x {mask.height} for {size[1]} x {size[0]}"
        )
    try:
        pixels = area_of(mask)
    except BadSample as error:
        raise BadPicture("annotations", f"{error} of {entity.label!r}") from error
    if pixels == 0:
        raise BadPicture("annotations", f"an empty mask of {entity.label!r}")


def _turned(entity: FoundEntity, orientation: int) -> FoundEntity:
    """The entity on the picture as it is shown."""
    mask, box = entity.mask, entity.box_xyxy
    return replace(
        entity,
        box_xyxy=box if box == NO_BOX else turned_box(box, orientation),
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
        return run_lengths(_transposed(pixels_of(mask), orientation))
    except BadSample as error:
        raise BadPicture("annotations", str(error)) from error
