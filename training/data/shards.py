"""Training pictures as webdataset shards: writing them, and reading them with bad ones skipped."""

from __future__ import annotations

import io
import json
import os
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from training.data.compose import Composite
from training.data.library import Library, load_library, make_sample
from training.data.pictures import encode_png

SAMPLES_PER_SHARD = 2000
SEEDS = {"train": 20_000, "val": 30_000}


def sample_members(key: str, composite: Composite, metadata: dict) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of one sample: picture, metadata, one mask per subject."""
    yield f"{key}.png", encode_png(composite.image)
    yield f"{key}.json", json.dumps(metadata).encode()
    for index, mask in enumerate(composite.masks):
        yield f"{key}.mask{index}.png", encode_png(mask)


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """Appends one file with fixed metadata, so that equal samples give equal shards."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write_shard(path: Path, library: Library, first: int, count: int, seed: int) -> None:
    """Writes samples first .. first + count - 1 into `path`; the file appears when complete."""
    partial = path.with_name(path.name + ".partial")
    with tarfile.open(partial, "w") as archive:
        for index in range(first, first + count):
            composite, metadata = make_sample(library, seed * 1_000_000 + index)
            for name, content in sample_members(f"{index:07d}", composite, metadata):
                add_member(archive, name, content)
    os.replace(partial, path)


@cache
def opened_library(work: Path, identity_split: str, scene_split: str) -> Library:
    """The library of a worker process, opened once."""
    return load_library(work, identity_split, scene_split)


def shard_job(job: tuple[Path, Path, str, str, int, int, int]) -> Path:
    """One shard in a worker process: path, work folder, sides, first index, count, seed."""
    path, work, identity_split, scene_split, first, count, seed = job
    library = opened_library(work, identity_split, scene_split)
    write_shard(path, library, first, count, seed)
    return path


def build_composites(
    work: Path, name: str, total: int, scene_split: str, seed: int, workers: int = 2
) -> None:
    """Writes `total` composites of train identities as shards below work/`name`.

    Shards already there are kept.
    """
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    jobs = []
    for number, first in enumerate(range(0, total, SAMPLES_PER_SHARD)):
        path = folder / f"{number:05d}.tar"
        if not path.exists():
            count = min(SAMPLES_PER_SHARD, total - first)
            jobs.append((path, work, "train", scene_split, first, count, seed))
    if not jobs:
        return
    with get_context("spawn").Pool(workers) as pool:
        for path in pool.imap_unordered(shard_job, jobs):
            print(f"composites: {path.name} written", flush=True)


@dataclass(frozen=True, kw_only=True)
class Entity:
    """A subject of a sample: box x1 y1 x2 y2 in 0..1, mask (H, W) bool of its visible pixels."""

    label: str
    box_xyxy: tuple[float, float, float, float]
    mask: np.ndarray
    identity: str
    cutout: int
    flipped: bool


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A training picture (H, W, 3) uint8 with its caption and subjects."""

    key: str
    image: np.ndarray
    caption: str
    scene: str
    entities: tuple[Entity, ...]


class BadSample(ValueError):
    """A sample that cannot be used; the message is the reason under which it is counted."""


def decode_png(content: bytes, mode: str) -> np.ndarray:
    """Pixels of a PNG; BadSample("unreadable picture") where it is none."""
    try:
        return np.asarray(Image.open(io.BytesIO(content)).convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise BadSample("unreadable picture") from error


def decode_entity(raw: dict[str, bytes], entry: dict, shape: tuple[int, int]) -> Entity:
    """One entity of a sample's metadata, checked against its picture's (H, W)."""
    box = entry.get("box")
    if not isinstance(box, list) or len(box) != 4:
        raise BadSample("box is not four numbers")
    x1, y1, x2, y2 = (float(v) for v in box)
    if not (0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1):
        raise BadSample("box outside the picture")
    if entry.get("mask") not in raw:
        raise BadSample("mask missing")
    mask = decode_png(raw[entry["mask"]], "1")
    if mask.shape != shape:
        raise BadSample("mask of another size")
    return Entity(
        label=entry["label"],
        box_xyxy=(x1, y1, x2, y2),
        mask=mask,
        identity=entry.get("identity", ""),
        cutout=int(entry.get("cutout", -1)),
        flipped=bool(entry.get("flipped", False)),
    )


def decode_sample(raw: dict[str, bytes]) -> Sample:
    """A sample from its raw members; raises BadSample with a fixed, countable reason."""
    if "png" not in raw:
        raise BadSample("picture missing")
    if "json" not in raw:
        raise BadSample("metadata missing")
    try:
        metadata = json.loads(raw["json"])
        caption, entries = metadata["caption"], metadata["entities"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadSample("metadata incomplete") from error
    if not entries:
        raise BadSample("no subjects")
    image = decode_png(raw["png"], "RGB")
    try:
        entities = tuple(decode_entity(raw, entry, image.shape[:2]) for entry in entries)
    except (KeyError, TypeError) as error:
        raise BadSample("metadata incomplete") from error
    return Sample(
        key=str(raw["__key__"]),
        image=image,
        caption=caption,
        scene=metadata.get("scene", ""),
        entities=entities,
    )


def shard_paths(path: Path) -> list[str]:
    """The shards of a folder in order, or the one shard `path`."""
    shards = sorted(path.glob("*.tar")) if path.is_dir() else [path]
    if not shards or not shards[0].exists():
        raise FileNotFoundError(f"shards: expected .tar files at {path}, got none. Build them.")
    return [str(shard) for shard in shards]


def read_shards(path: Path | str, bad: Counter[str] | None = None) -> Iterator[Sample]:
    """Reads all samples of a shard or a folder of shards, in order.

    Args:
        path: a .tar file or a folder of them.
        bad: counter that receives the reason of every skipped sample.

    Yields:
        Sample; unusable ones are skipped, with one warning each.
    """
    bad = Counter() if bad is None else bad
    dataset = webdataset.WebDataset(
        shard_paths(Path(path)), shardshuffle=False, empty_check=False, handler=count_error(bad)
    )
    for raw in dataset:
        try:
            yield decode_sample(raw)
        except BadSample as reason:
            bad[str(reason)] += 1
            warnings.warn(f"sample {raw['__key__']}: {reason}; skipped.", stacklevel=2)


def count_error(bad: Counter[str]) -> Callable[[Exception], bool]:
    """Handler for webdataset: counts a broken shard and goes on with the next."""

    def handler(error: Exception) -> bool:
        bad["broken shard"] += 1
        warnings.warn(f"{error}; the rest of this shard is skipped.", stacklevel=2)
        return True

    return handler
