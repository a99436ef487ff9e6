"""Training pictures as webdataset shards: writing them, and reading them with bad ones skipped."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ...dataset.bad_sample import BadSample
from ...dataset.catalogue import open_catalogue
from ...dataset.layout import TrainingSample, decode_sample
from ...dataset.shard_file import encode_picture, write_shard
from .compose import Composite
from .library import Library, load_library, make_sample

SAMPLES_PER_SHARD = 2000
FAST = {"compress_level": 1}  # not smallest
SEEDS = {"train": 20_000, "val": 30_000}


def sample_members(
    key: str, composite: Composite, metadata: dict[str, Any]
) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of one sample: picture, metadata, one mask per subject."""
    yield f"{key}.png", encode_picture(composite.image, "PNG", **FAST)
    yield f"{key}.json", json.dumps(metadata).encode()
    for index, mask in enumerate(composite.masks):
        yield f"{key}.mask{index}.png", encode_picture(mask, "PNG", **FAST)


def composite_members(
    library: Library, first: int, count: int, seed: int
) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of samples first .. first + count - 1."""
    for index in range(first, first + count):
        composite, metadata = make_sample(library, seed * 1_000_000 + index)
        yield from sample_members(f"{index:07d}", composite, metadata)


@cache
def opened_library(work: Path, identity_split: str, scene_split: str) -> Library:
    """The library of a worker process, opened once."""
    return load_library(work, identity_split, scene_split)


def shard_job(job: tuple[Path, Path, str, str, int, int, int]) -> Path:
    """One shard in a worker process: path, work folder, sides, first index, count, seed."""
    path, work, identity_split, scene_split, first, count, seed = job
    library = opened_library(work, identity_split, scene_split)
    write_shard(path, composite_members(library, first, count, seed))
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


def read_shards(path: Path, bad: Counter[str] | None = None) -> Iterator[TrainingSample]:
    """Read all samples of a folder of shards, in order.

    Args:
        path: a .tar file or a folder of them; their indices are kept beside it.
        bad: counter that receives the reason of every skipped sample.

    Yields:
        Samples with their pictures; unusable ones are skipped, with one warning each.
    """
    bad = Counter() if bad is None else bad
    catalogue = open_catalogue(path, path.with_name(f"{path.stem}-index"))
    for sentence in catalogue.damaged:
        bad["broken shard"] += 1
        warnings.warn(sentence, stacklevel=2)
    for shard, count in enumerate(catalogue.counts):
        for row in range(count):
            try:
                yield decode_sample(*catalogue.read(shard, row))
            except BadSample as reason:
                bad[str(reason)] += 1
                warnings.warn(f"{catalogue.name(shard, row)}: {reason}; skipped.", stacklevel=2)
