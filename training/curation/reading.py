"""Where raw pictures come from: folders, lists, webdataset tars, parquet, records.

Each reader yields a record a picture, with what came along (caption, boxes, masks, licence), and
opens no picture: the check does. What it cannot read it yields as quarantined and goes on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from .pictures import SUFFIXES, BadPicture, read_bytes, tar_members
from .record import ALPHA, NO_BOX, FoundEntity, PictureSource, Quarantined, Record

Found = Iterator[Record | Quarantined]
PICTURE_SUFFIXES = frozenset(suffix for of in SUFFIXES.values() for suffix in of)
PATH_COLUMNS = ("path", "picture", "image_path", "file_name", "file")
CAPTION_COLUMNS = ("caption", "text", "TEXT")


def read_source(source: Path) -> Found:
    """All pictures of a folder of pictures or of .tar files, a .tar file, a list (.jsonl), or a
    table (.parquet), always in the same order."""
    if source.is_dir():
        archives = sorted(source.glob("*.tar"))
        return (
            (found for archive in archives for found in read_tar(archive))
            if archives
            else (read_folder(source))
        )
    readers = {".tar": read_tar, ".jsonl": read_list, ".parquet": read_parquet}
    reader = readers.get(source.suffix)
    if reader is None or not source.is_file():
        raise ValueError(
            "--pictures: expected a folder, or a .tar, .jsonl or .parquet file, got "
            f"{source}{'' if source.exists() else ', where nothing is'}. Choose another."
        )
    return reader(source)


def key_of(name: str) -> str:
    """A key for a shard that tells the name, and is another one for every name.

    >>> key_of("dogs/rex 1.jpg")
    'dogs_rex_1-c7a9cd46ed'
    """
    plain = re.sub(r"[^A-Za-z0-9-]+", "_", str(Path(name).with_suffix("")))[-60:].strip("_")
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def read_folder(folder: Path) -> Found:
    """Pictures below a folder; beside NAME.jpg may stand NAME.txt, its caption, or NAME.json, a
    line of a list without "picture". Pictures that a NAME.json names as masks are masks."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [f for f in files if not any(p.startswith(".") for p in f.relative_to(folder).parts)]
    pictures = [path for path in files if path.suffix.lower() in PICTURE_SUFFIXES]
    stems = {path.with_suffix("") for path in pictures}
    sidecars = {path for path in files if path.suffix.lower() in (".txt", ".json")}
    masks = {mask for path in sidecars for mask in _masks_of(path)}
    for path in files:
        source, name = PictureSource(path=str(path)), path.relative_to(folder).as_posix()
        if path in masks:
            continue
        if path in sidecars:
            if path.with_suffix("") not in stems:
                yield _left_out(name, source, "missing", "the picture of a caption or description")
        elif path.suffix.lower() in PICTURE_SUFFIXES:
            yield _with_sidecars(name, source, path)
        else:
            yield _left_out(name, source, "not a picture", f"the suffix {path.suffix!r}")


def _left_out(name: str, source: PictureSource, reason: str, detail: str) -> Quarantined:
    return Quarantined(key=key_of(name), picture=source, reason=reason, detail=detail)


def _masks_of(sidecar: Path) -> list[Path]:
    if sidecar.suffix.lower() != ".json":
        return []
    try:
        subjects = json.loads(sidecar.read_text(encoding="utf-8")).get("subjects", [])
        return [sidecar.parent / each["mask"] for each in subjects if each.get("mask")]
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        return []  # told where its picture is read


def _with_sidecars(name: str, source: PictureSource, path: Path) -> Record | Quarantined:
    try:
        entry: dict[str, Any] = {}
        described, caption = path.with_suffix(".json"), path.with_suffix(".txt")
        if described.is_file():
            entry = json.loads(described.read_text(encoding="utf-8"))
        if caption.is_file():
            entry = {"caption": caption.read_text(encoding="utf-8").strip(), **entry}
        return described_record(name, source, entry, path.parent)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _not_understood(name, source, error)


def _not_understood(name: str, source: PictureSource, error: Exception) -> Quarantined:
    return _left_out(name, source, "annotations", f"{type(error).__name__}: {error}")


def described_record(
    name: str, source: PictureSource, entry: Mapping[str, Any], folder: Path
) -> Record:
    """The record of a line of a list. All parts may be left out.

    Args:
        entry: caption; subjects, each with label, box (x1 y1 x2 y2 in 0..1), mask (a file) and
            identity; ``annotated`` "stored" where these lie on the pixels before the camera's
            orientation; licence; provenance, texts by name.
        folder: what masks' paths are relative to.
    """
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected an object, got {str(entry)[:60]!r}")
    subjects, caption = entry.get("subjects"), entry.get("caption")
    frame = entry.get("annotated", "shown")
    if frame not in ("shown", "stored"):
        raise ValueError(f"annotated: expected shown or stored, got {frame!r}")
    return Record(
        key=key_of(name),
        picture=source,
        provenance={"name": name, **{k: str(v) for k, v in entry.get("provenance", {}).items()}},
        licence=str(entry.get("licence", "")),
        caption=str(caption).strip() or None if caption is not None else None,
        entities=None if subjects is None else tuple(_subject(s, folder) for s in subjects),
        annotated_as_stored=frame == "stored",
    )


def _subject(entry: Mapping[str, Any], folder: Path) -> FoundEntity:
    box, mask = entry.get("box"), entry.get("mask")
    if box is None:
        x1, y1, x2, y2 = NO_BOX
    else:
        x1, y1, x2, y2 = (float(value) for value in box)
    source = str(folder / mask) if mask else ""
    return FoundEntity(
        label=str(entry["label"]).strip(),
        box_xyxy=(x1, y1, x2, y2),
        mask_source=source or (ALPHA if box is None else ""),
        identity=str(entry.get("identity", "")),
    )


def read_list(path: Path) -> Found:
    """A line a picture: docs/training.md's, whose parts may be left out but for "picture"; or a
    record's, as `data convert` writes them (with "key")."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{path.name}:{number}"
            source = PictureSource(path=str(path))
            try:
                entry = json.loads(line)
                if "key" in entry:
                    yield Record.from_fields(entry)
                    continue
                source = PictureSource(path=str(path.parent / entry["picture"]))
                yield described_record(entry["picture"], source, entry, path.parent)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                yield _not_understood(place, source, error)


def read_tar(path: Path) -> Found:
    """Samples as img2dataset writes them: KEY.jpg, KEY.txt (caption), KEY.json (caption, url)."""
    try:
        names, damage = tar_members(str(path), path.stat().st_mtime_ns)
    except OSError as error:
        names, damage = {}, f"{type(error).__name__}: {error}"
    if damage:
        source = PictureSource(path=str(path))
        yield _left_out(path.name, source, "unreadable", damage)
    for member in names:
        stem, suffix = str(Path(member).with_suffix("")), Path(member).suffix.lower()
        if suffix not in PICTURE_SUFFIXES:
            continue
        source, name = PictureSource(path=str(path), member=member), f"{path.stem}/{member}"
        try:
            yield _tar_record(name, source, stem, names.keys())
        except (BadPicture, ValueError, AttributeError) as error:
            yield _not_understood(name, source, error)


def _tar_record(name: str, source: PictureSource, stem: str, known: Set[str]) -> Record:
    def text(suffix: str) -> str | None:
        if stem + suffix not in known:
            return None
        member = PictureSource(path=source.path, member=stem + suffix)
        return read_bytes(member).decode("utf-8")

    described, caption = json.loads(text(".json") or "{}"), text(".txt")
    caption = described.get("caption") if caption is None else caption
    origin = {k: described[k] for k in ("url", "original_id") if described.get(k)}
    entry = {"caption": caption, "provenance": origin, "licence": described.get("licence", "")}
    return described_record(name, source, entry, Path(source.path).parent)


def read_parquet(path: Path) -> Found:
    """A table with a column of paths (relative to it), and, if it has them, caption, licence, and
    url; further columns are left alone."""
    from pyarrow.parquet import ParquetFile

    table = ParquetFile(path)
    columns = table.schema_arrow.names
    where = next((name for name in PATH_COLUMNS if name in columns), None)
    if where is None:
        raise ValueError(
            f"--pictures: expected a column of paths ({', '.join(PATH_COLUMNS)}) in {path}, got "
            f"{', '.join(columns)}. Rename it."
        )
    text = next((name for name in CAPTION_COLUMNS if name in columns), None)
    wanted = [n for n in (where, text, "licence", "license", "url") if n and n in columns]
    for batch in table.iter_batches(columns=wanted):
        for row in batch.to_pylist():
            source = PictureSource(path=str(path.parent / str(row[where])))
            entry = {
                "caption": row.get(text) if text else None,
                "licence": row.get("licence") or row.get("license") or "",
                "provenance": {"url": row["url"]} if row.get("url") else {},
            }
            yield described_record(str(row[where]), source, entry, path.parent)
