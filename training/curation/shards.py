"""Kept pictures to balanced shards: OUT/train and OUT/held-out, numbered without gaps.

Beside 00000.tar stands 00000.made.json: what it was made from, its keys, its SHA-256. A shard that
would hold just the same stays; one that changes is replaced whole.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset.bad_sample import BadSample
from ..dataset.shard_file import note_path, read_note, write_shard
from ..runs import write_json
from .record import Record
from .samples import SCHEMA, sample_members, sample_text
from .settings import CurationSettings
from .sides import groups, held_out_groups
from .store import Store

SIDES = ("train", "held-out")
VERSION = 1
Note = dict[str, Any]  # a shard's: fingerprint, samples, bytes, sha256, keys


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """Which kept pictures go where.

    Attributes:
        sides: side -> keys, in the order of the shards.
        digests: key -> hash of what its sample is made from.
        duplicates: key -> key of the picture with the same bytes that is taken in its place.
        near: pictures that are near-duplicates of an earlier one.
    """

    sides: dict[str, list[str]]
    digests: dict[str, bytes]
    duplicates: dict[str, str]
    near: int


def assign(store: Store, settings: CurationSettings) -> Assignment:
    """Sides for all kept pictures; of those with the same bytes the first is taken."""
    first: dict[str, str] = {}
    duplicates: dict[str, str] = {}
    keys: list[str] = []
    digests, identities, hashes = {}, [], []
    for ending in store.endings("kept"):
        record = Record.from_fields(ending.fields)
        content, perceptual = record.content_hash, record.perceptual_hash
        assert content is not None and perceptual is not None
        if first.setdefault(content, record.key) != record.key:
            duplicates[record.key] = first[content]
            continue
        keys.append(record.key)
        digests[record.key] = hashlib.sha256(sample_text(record).encode()).digest()[:16]
        identities.append([e.identity for e in record.entities or () if e.identity])
        hashes.append(int(perceptual, 16))
    found = groups(np.array(hashes, np.uint64), settings.near_bits)
    held_out = held_out_groups(keys, found, identities, settings.held_out)
    sides: dict[str, list[str]] = {side: [] for side in SIDES}
    for key, group in zip(keys, found, strict=True):
        sides[SIDES[group in held_out]].append(key)
    near = sum(keys[group] != key for key, group in zip(keys, found, strict=True))
    return Assignment(sides=sides, digests=digests, duplicates=duplicates, near=near)


def balanced(keys: Sequence[str], at_most: int) -> Iterator[Sequence[str]]:
    """Parts of at most so many, as few as can be, whose sizes differ by one at most.

    >>> [len(part) for part in balanced("abcdefg", 3)]
    [2, 2, 3]
    """
    count = -(-len(keys) // at_most)
    for number in range(count):
        yield keys[number * len(keys) // count : (number + 1) * len(keys) // count]


@dataclass(frozen=True, kw_only=True)
class ShardWriter:
    """Writes the sides' shards.

    Attributes:
        processes: that write at once, each a shard.
        done: is told of so many samples more that are in shards.
    """

    store: Store
    samples_per_shard: int
    processes: int
    done: Callable[[int], object]

    def write(self, folder: Path, keys: Sequence[str], digests: dict[str, bytes]) -> list[Note]:
        """Write the shards that are new or changed and remove those beyond the last; the notes of
        all of them."""
        folder.mkdir(parents=True, exist_ok=True)
        parts = list(balanced(keys, self.samples_per_shard))
        paths = [folder / f"{number:05d}.tar" for number in range(len(parts))]
        for path in set(folder.glob("*.tar")) - set(paths):
            path.unlink()
            note_path(path).unlink(missing_ok=True)
        marks = [fingerprint(part, digests) for part in parts]
        changed = [
            (path, part, mark)
            for path, part, mark in zip(paths, parts, marks, strict=True)
            if read_note(path).get("fingerprint") != mark or not path.exists()
        ]
        self.done(len(keys) - sum(len(part) for _, part, _ in changed))
        if self.processes > 1 and len(changed) > 1:
            self._write_side_by_side(changed)
        else:
            for task in changed:
                self.done(write_one(*self._with_records(task))["samples"])
        return [{"name": path.name, **read_note(path)} for path in paths]

    def _write_side_by_side(self, tasks: Sequence[tuple[Path, Sequence[str], str]]) -> None:
        """No more shards' records in memory than are being written."""
        running: set[Future[Note]] = set()
        with ProcessPoolExecutor(self.processes, multiprocessing.get_context("spawn")) as pool:
            for task in tasks:
                if len(running) > self.processes:
                    running = self._collect(running)
                running.add(pool.submit(write_one, *self._with_records(task)))
            while running:
                running = self._collect(running)

    def _collect(self, running: set[Future[Note]]) -> set[Future[Note]]:
        finished, left = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            self.done(future.result()["samples"])
        return left

    def _with_records(
        self, task: tuple[Path, Sequence[str], str]
    ) -> tuple[Path, list[Record], str]:
        path, keys, mark = task
        return path, [Record.from_fields(e.fields) for e in self.store.kept(keys)], mark


def fingerprint(keys: Sequence[str], digests: dict[str, bytes]) -> str:
    """Of a shard: its samples in their order."""
    found = hashlib.sha256(json.dumps([VERSION, SCHEMA]).encode())
    for key in keys:
        found.update(key.encode() + digests[key])
    return found.hexdigest()[:32]


def write_one(path: Path, records: Sequence[Record], mark: str) -> Note:
    """Write a shard and its note, the shard first: a shard without its note is made again."""
    note_path(path).unlink(missing_ok=True)
    write_shard(path, _members(records))
    note = {
        "fingerprint": mark,
        "samples": len(records),
        "bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "keys": [record.key for record in records],
    }
    write_json(note_path(path), note)
    return note


def _members(records: Sequence[Record]) -> Iterator[tuple[str, bytes]]:
    for record in records:
        try:
            members = sample_members(record)
        except BadSample as error:
            raise ValueError(
                f"{record.key}: expected a sample to train on, got: {error}"
            ) from error
        for suffix, content in members.items():
            yield f"{record.key}.{suffix}", content


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()
