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

from ...dataset import layout
from ...dataset.bad_sample import BadSample
from ...dataset.layout import Entity
from .compose import Composite
from .library import Library, load_library, make_sample
from .pictures import encode_png

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
class Sample:
    """A training picture (H, W, 3) uint8 with its caption and subjects."""

    key: str
    image: np.ndarray
    caption: str
    scene: str
    entities: tuple[Entity, ...]


def decode_sample(raw: dict[str, bytes]) -> Sample:
    """A sample from its raw members; raises BadSample with a fixed, countable reason."""
    decoded = layout.decode_sample(str(raw["__key__"]), raw)
    assert decoded.image is not None
    return Sample(
        key=decoded.key,
        image=decoded.image,
        caption=decoded.caption,
        scene=json.loads(raw["json"]).get("scene", ""),
        entities=decoded.entities,
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
