"""OpenImages' boxes and masks as records: its CSV files, and the folder of mask pictures.

Groups (``IsGroupOf``) and the thirteen parts of human bodies are marked; rule 7 takes them out.
Boxes and masks name each other by label and by the box's coordinates only.
# Shapes: H, W picture.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from ..record import FoundEntity, PictureSource, Record, RunLengths
from .conversion import Skipped, clipped_box, sample_key
from .frames import Frame, find_frame, same_proportions
from .masks import fit_mask

BODY_PARTS = frozenset(
    f"human {part}"
    for part in (
        "arm", "beard", "body", "ear", "eye", "face", "foot", "hair", "hand", "head", "leg",
        "mouth", "nose",
    )
)  # fmt: skip
BOX_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", "IsGroupOf")
MASK_COLUMNS = ("MaskPath", "ImageID", "LabelName", "BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax")
IMAGE_COLUMNS = ("ImageID", "License")
SAME_BOX = 2e-3  # the mask's file rounds the box's coordinates
Row = Mapping[str, str]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class _ListedMask:
    """A line of the masks' file."""

    file: str
    mid: str
    box_xyxy: Box


def convert_open_images(
    boxes: Path,
    classes: Path,
    pictures: Path,
    masks: Path | None = None,
    mask_pictures: Path | None = None,
    images: Path | None = None,
) -> Iterator[Record | Skipped]:
    """Records of all pictures of a file of boxes, in its order, and what could not be used.

    Args:
        boxes: ``*-annotations-bbox.csv``; the rows of a picture follow each other in it.
        classes: ``*class-descriptions*.csv``: what ``/m/0cmf2`` is in English.
        pictures: folder of ``IMAGEID.jpg``.
        masks: ``*-annotations-object-segmentation.csv``; without it the mask stage makes them.
        mask_pictures: folder of the PNG files that ``masks`` names, or of folders 0 to F of them.
        images: ``*image*.csv`` with the licences.
    """
    if (masks is None) != (mask_pictures is None):
        raise ValueError(
            "--masks: expected it together with --mask-pictures, got one of them. Give both."
        )
    labels = read_classes(classes)
    listed = {} if masks is None else _masks_by_picture(masks)
    licences = {} if images is None else _licences(images)
    seen: set[str] = set()
    for number, rows in groupby(read_rows(boxes, "--boxes", BOX_COLUMNS), lambda r: r["ImageID"]):
        if number in seen:
            raise ValueError(
                f"--boxes: expected all rows of a picture after each other, got {boxes} with "
                f"{number} in two places. Sort the file."
            )
        seen.add(number)
        picture = _Picture(
            path=pictures / f"{number}.jpg", masks=listed.get(number, []), folder=mask_pictures
        )
        record, skipped = picture.convert(number, rows, labels)
        yield from skipped
        yield replace(record, licence=licences.get(number, ""))


def read_rows(path: Path, argument: str, columns: Iterable[str]) -> Iterator[Row]:
    """Rows of a CSV file with these columns among others; one sentence where they lack."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{argument}: expected a CSV file, got {path}, where nothing is. Correct the path."
        )
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _whole_rows(csv.DictReader(file), path, argument, columns)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{argument}: expected a CSV file, got {path} ({error}). Fetch the file again."
        ) from error


def _whole_rows(
    rows: csv.DictReader[str], path: Path, argument: str, columns: Iterable[str]
) -> Iterator[Row]:
    lacking = [name for name in columns if name not in (rows.fieldnames or ())]
    if lacking:
        raise ValueError(
            f"{argument}: expected the columns {', '.join(columns)}, got {path} without "
            f"{', '.join(lacking)}. Take the file as OpenImages publishes it."
        )
    for row in rows:
        if None in row.values():
            raise ValueError(
                f"{argument}: expected whole rows, got {path} with a short one in line "
                f"{rows.line_num}. Fetch the file again."
            )
        yield row


def read_classes(path: Path) -> dict[str, str]:
    """MID -> label in small letters, of the file with a line of headings or without one."""
    if not path.is_file():
        raise FileNotFoundError(
            f"--classes: expected a CSV file, got {path}, where nothing is. Correct the path."
        )
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = [row for row in csv.reader(file) if row]
        except (csv.Error, UnicodeDecodeError):
            rows = []  # no table: told below
    labels = {row[0]: row[1].lower().strip() for row in rows if len(row) == 2}
    labels.pop("LabelName", None)
    if not labels or len(rows) - len(labels) > 1:
        raise ValueError(
            f"--classes: expected two columns, a code and a name, got {path}. Take "
            "class-descriptions-boxable.csv."
        )
    return labels


def _licences(path: Path) -> dict[str, str]:
    return {row["ImageID"]: row["License"] for row in read_rows(path, "--images", IMAGE_COLUMNS)}


def _masks_by_picture(path: Path) -> dict[str, list[_ListedMask]]:
    found: dict[str, list[_ListedMask]] = defaultdict(list)
    for row in read_rows(path, "--masks", MASK_COLUMNS):
        mask = _ListedMask(
            file=row["MaskPath"], mid=row["LabelName"], box_xyxy=_numbers(row, "Box")
        )
        found[row["ImageID"]].append(mask)
    return found


def _numbers(row: Row, prefix: str) -> Box:
    """x1 y1 x2 y2 of a row; NaN for what is no number."""
    values = []
    for name in ("XMin", "YMin", "XMax", "YMax"):
        try:
            values.append(float(row[prefix + name]))
        except ValueError:
            values.append(math.nan)
    return values[0], values[1], values[2], values[3]


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """A picture's file and the masks that are listed for it."""

    path: Path
    masks: Sequence[_ListedMask]
    folder: Path | None

    def convert(
        self, number: str, rows: Iterable[Row], labels: Mapping[str, str]
    ) -> tuple[Record, list[Skipped]]:
        """The picture with its subjects, and what could not be used."""
        left, entities, skipped = list(self.masks), [], []
        frame: Frame | None = None  # that of the first mask; boxes alone lie on stored pixels
        for row in rows:
            mask = _nearest(left, row["LabelName"], _numbers(row, ""))
            try:
                runs = None
                entity = _convert_entity(row, labels)
                if mask is not None and self.folder is not None:
                    left.remove(mask)
                    pixels = _read_mask(self.folder, mask.file)
                    frame = frame or find_frame(self.path, pixels.shape[1], pixels.shape[0])
                    runs = _fit(pixels, frame)
                entities.append(replace(entity, mask=runs))
            except ValueError as error:
                skipped.append(Skipped(where=f"{number} {row['LabelName']}", reason=str(error)))
        skipped += [Skipped(where=mask.file, reason="mask without a box") for mask in left]
        record = Record(
            key=sample_key("openimages", number),
            picture=PictureSource(path=str(self.path)),
            provenance={"dataset": "openimages", "id": number},
            entities=tuple(entities),
            annotated_as_stored=frame is None or frame.as_stored,
        )
        return record, skipped


def _convert_entity(row: Row, labels: Mapping[str, str]) -> FoundEntity:
    """The subject of a row, without its mask."""
    label, box = labels.get(row["LabelName"]), _numbers(row, "")
    if label is None:
        raise ValueError("unknown category")
    if not all(map(math.isfinite, box)):
        raise ValueError("box is not four numbers")
    clipped = clipped_box(*box)
    if clipped is None:
        raise ValueError("box outside the picture")
    return FoundEntity(
        label=label,
        box_xyxy=clipped,
        is_group=row["IsGroupOf"] == "1",
        is_body_part=label in BODY_PARTS,
    )


def _nearest(masks: list[_ListedMask], mid: str, box: Box) -> _ListedMask | None:
    """The mask of this label that was drawn from this box; None if there is none."""

    def distance(mask: _ListedMask) -> float:
        return max(abs(a - b) for a, b in zip(mask.box_xyxy, box, strict=True))

    same = [m for m in masks if m.mid == mid and distance(m) <= SAME_BOX]
    return min(same, key=distance, default=None)


def _read_mask(folder: Path, name: str) -> np.ndarray:
    """A mask picture's pixels (H, W) bool; whatever is not black is the subject."""
    places = (folder / name, folder / name[:1].upper() / name, folder / name[:1].lower() / name)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ValueError("mask file missing")
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("L")) > 0
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError("unreadable mask") from error


def _fit(mask: np.ndarray, frame: Frame | None) -> RunLengths:
    """The mask on the picture's pixels, if they have the same proportions."""
    size = (mask.shape[1], mask.shape[0])
    if frame is None or not same_proportions(size, (frame.width, frame.height)):
        raise ValueError("mask of other proportions")
    return fit_mask(mask, frame)
