"""COCO's and LVIS's annotations as records; both have one JSON file with lists of all things.

COCO: ``instances_*.json`` and, for texts, ``captions_*.json``. LVIS writes the same lists without
file names (``coco_url`` says them) and names like ``bow_(weapon)``. A crowd (``iscrowd``) counts as
a group, which rule 7 takes out.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..record import FoundEntity, PictureSource, Record, label_span
from .conversion import Skipped, best_caption, clipped_box, sample_key
from .frames import Frame, find_frame
from .masks import fit_mask, read_segmentation

Entry = Mapping[str, Any]
Id = int | str
LONGEST_SIDE = 100_000  # pixels


@dataclass(frozen=True, kw_only=True)
class _Tables:
    """The file's lists by what they are looked up by."""

    annotations: Mapping[Id, list[Entry]]
    labels: Mapping[Id, str]
    licences: Mapping[Id, str]
    captions: Mapping[Id, list[str]]


def convert_coco(
    annotations: Path, pictures: Path, captions: Path | None = None, dataset: str = "coco"
) -> Iterator[Record | Skipped]:
    """Records of all pictures of an annotation file, in its order, and what could not be used.

    Args:
        annotations: COCO's ``instances_*.json`` or LVIS's ``lvis_v1_*.json``.
        pictures: the folder of the pictures, or the one above ``train2017``.
        captions: COCO's ``captions_*.json``; of several texts, the one that names most labels.
        dataset: begins every key.
    """
    file = read_lists(annotations, "--annotations", ("images", "annotations", "categories"))
    tables = _Tables(
        annotations=_by_picture(file["annotations"]),
        labels={_id(e): plain_label(str(e.get("name", ""))) for e in file["categories"]},
        licences=_licences(file.get("licenses")),
        captions=_captions(captions),
    )
    known = {_id(image) for image in file["images"]}
    for number in tables.annotations.keys() - known:
        yield Skipped(where=f"{annotations.name}: image {number}", reason="picture not listed")
    for image in file["images"]:
        yield from _convert_image(image, tables, pictures, dataset)


def read_lists(path: Path, argument: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    """A JSON file of lists, or one sentence about what it lacks."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{argument}: expected a JSON file, got {path}, where nothing is. Correct the path."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{argument}: expected JSON, got {path} ({error}). Fetch the file again."
        ) from error
    lacking = [
        name
        for name in wanted
        if not isinstance(content, dict)
        or not isinstance(content.get(name), list)
        or not all(isinstance(entry, dict) for entry in content[name])
    ]
    if lacking:
        raise ValueError(
            f"{argument}: expected lists {', '.join(wanted)}, got {path} without "
            f"{', '.join(lacking)}. Take the file of instances."
        )
    return dict(content)


def plain_label(name: str) -> str:
    """A category's name as a caption says it.

    >>> plain_label("bow_(weapon)"), plain_label("wall_socket")
    ('bow', 'wall socket')
    """
    return name.split("_(")[0].replace("_", " ").strip()


def _id(entry: Entry, name: str = "id") -> Id:
    """A number or a text; -1 where it is neither."""
    value = entry.get(name)
    return value if isinstance(value, int | str) else -1


def _by_picture(entries: list[Entry]) -> dict[Id, list[Entry]]:
    found: dict[Id, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[_id(entry, "image_id")].append(entry)
    return found


def _captions(path: Path | None) -> dict[Id, list[str]]:
    if path is None:
        return {}
    entries = _by_picture(read_lists(path, "--captions", ("annotations",))["annotations"])
    if not all("caption" in entry for group in entries.values() for entry in group):
        raise ValueError(
            f"--captions: expected a caption in every annotation, got {path} without. Take the "
            "file captions_*.json."
        )
    return {number: [str(e["caption"]) for e in group] for number, group in entries.items()}


def _licences(entries: object) -> dict[Id, str]:
    listed = [e for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    return {
        _id(entry): " ".join(str(entry[part]) for part in ("name", "url") if entry.get(part))
        for entry in listed
    }


def picture_path(image: Entry, pictures: Path) -> Path:
    """Where a picture lies: in the folder itself, or in the one that its address names."""
    if image.get("file_name"):
        return pictures / str(image["file_name"])
    address = PurePosixPath(str(image["coco_url"]))
    inside = pictures / address.parent.name / address.name
    return inside if inside.is_file() else pictures / address.name


def _convert_image(
    image: Entry, tables: _Tables, pictures: Path, dataset: str
) -> Iterator[Record | Skipped]:
    try:
        number, width, height = _id(image), int(image["width"]), int(image["height"])
        path = picture_path(image, pictures)
        if number == -1 or not (1 <= width <= LONGEST_SIDE and 1 <= height <= LONGEST_SIDE):
            raise ValueError("no such size")
    except (KeyError, TypeError, ValueError, OverflowError):
        yield Skipped(where=f"image {image.get('id')}", reason="image without id, size or name")
        return
    frame = find_frame(path, width, height)
    if frame is None:
        yield Skipped(where=f"image {number}", reason="picture of other proportions than listed")
        return
    entities: list[FoundEntity] = []
    for entry in tables.annotations.get(number, []):
        try:
            entities.append(_convert_entity(entry, tables.labels, width, height, frame))
        except ValueError as error:
            yield Skipped(where=f"annotation {entry.get('id')}", reason=str(error))
    caption = best_caption(tables.captions.get(number, []), (e.label for e in entities))
    yield Record(
        key=sample_key(dataset, path.stem),
        picture=PictureSource(path=str(path)),
        provenance=_provenance(image, dataset),
        licence=tables.licences.get(_id(image, "license"), ""),
        caption=caption,
        entities=tuple(replace(e, span=label_span(e.label, caption)) for e in entities),
        annotated_as_stored=frame.as_stored,
    )


def _provenance(image: Entry, dataset: str) -> dict[str, str]:
    named = {"dataset": dataset, "id": str(image["id"])}
    addresses = {name: image[name] for name in ("coco_url", "flickr_url") if image.get(name)}
    return {**named, **addresses}


def _convert_entity(
    entry: Entry, labels: Mapping[Id, str], width: int, height: int, frame: Frame
) -> FoundEntity:
    """One annotation; ``width`` and ``height`` are those it was drawn on."""
    label = labels.get(_id(entry, "category_id"))
    if not label:
        raise ValueError("unknown category")
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError("box is not four numbers")
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in box):
        raise ValueError("box is not four numbers")
    x, y, w, h = (float(value) for value in box)
    clipped = clipped_box(x / width, y / height, (x + w) / width, (y + h) / height)
    if clipped is None:
        raise ValueError("box outside the picture")
    mask = read_segmentation(entry.get("segmentation"), width, height)
    return FoundEntity(
        label=label,
        box_xyxy=clipped,
        mask=None if mask is None else fit_mask(mask, frame),
        is_group=bool(entry.get("iscrowd", 0)),
    )
