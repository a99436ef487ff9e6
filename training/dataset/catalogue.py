"""What a folder of shards holds, and reading any sample of it by shard and row.

A shard is indexed once: where each member of each sample begins, so that a sample is two reads away
wherever it lies. The index is kept in the run's folder.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..runs import atomic_path
from .layout import PICTURE_SUFFIXES, BadSample, decode_metadata

Members = dict[str, tuple[int, int]]  # suffix -> offset, size
INDEX_VERSION = 1


def list_shards(data: Path) -> list[Path]:
    """The .tar files of a folder, or the one file."""
    shards = sorted(data.glob("*.tar")) if data.is_dir() else [data]
    if not shards or not shards[0].is_file():
        raise FileNotFoundError(
            f"--data: expected a folder of .tar shards, got none in {data}. "
            "Make them with `python -m training precompute`."
        )
    return shards


@dataclass(frozen=True)
class ShardIndex:
    """Samples of a shard: key and members of each, and what is wrong with the file, if anything."""

    path: str
    keys: list[str]
    members: list[Members]
    damage: str = ""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All shards of a folder.

    Attributes:
        shards, counts: paths and their numbers of whole samples.
        folder: where the shards' indices are.
        views: identity -> (shard, row, entity) of each of its pictures, where there are several.
        features: what was computed before, the same for all samples: kind -> the encoder's mark.
        damaged: one sentence per shard that is not whole.
    """

    shards: list[str]
    counts: list[int]
    folder: str
    views: dict[str, list[tuple[int, int, int]]]
    features: dict[str, str]
    damaged: list[str] = field(default_factory=list)

    def read(self, shard: int, row: int) -> tuple[str, dict[str, bytes]]:
        """Key and raw members of a sample."""
        index = load_index(Path(self.folder) / f"{shard:05d}.json")
        try:
            with open(self.shards[shard], "rb") as file:
                raw = {}
                for suffix, (offset, size) in index.members[row].items():
                    file.seek(offset)
                    raw[suffix] = file.read(size)
        except OSError as error:
            raise BadSample("unreadable shard") from error
        if any(len(raw[s]) != size for s, (_, size) in index.members[row].items()):
            raise BadSample("shard cut short")
        return index.keys[row], raw

    def name(self, shard: int, row: int) -> str:
        """How a sample is named in messages."""
        index = load_index(Path(self.folder) / f"{shard:05d}.json")
        return f"{Path(self.shards[shard]).name}/{index.keys[row]}"


@lru_cache(maxsize=64)
def load_index(path: Path) -> ShardIndex:
    """An index file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    members = [{s: (int(o), int(n)) for s, (o, n) in m.items()} for m in content["members"]]
    return ShardIndex(content["path"], content["keys"], members, content["damage"])


def index_shard(path: Path) -> ShardIndex:
    """Find every whole sample of a shard; a damaged end costs only what lies in it."""
    size = path.stat().st_size
    samples: dict[str, Members] = {}
    damage = ""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stem, _, suffix = Path(member.name).name.partition(".")
                key = str(Path(member.name).parent / stem) if "/" in member.name else stem
                if member.offset_data + member.size > size:
                    damage = "cut short"
                    samples.pop(key, None)
                    break
                if member.isfile():
                    samples.setdefault(key, {})[suffix] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        damage = f"not a whole .tar file ({error})"
    pictured = {k: m for k, m in samples.items() if "json" in m and _has_content(m)}
    if not damage and len(pictured) < len(samples):
        damage = f"{len(samples) - len(pictured)} samples without picture or metadata"
    return ShardIndex(str(path), list(pictured), list(pictured.values()), damage)


def _has_content(members: Members) -> bool:
    return "features.safetensors" in members or any(s in members for s in PICTURE_SUFFIXES)


def open_catalogue(data: Path, folder: Path, build: bool = True) -> Catalogue:
    """The catalogue of ``data``, its index in ``folder``; built where it is new or out of date.

    Args:
        build: False for all processes but the first, after it has built.
    """
    shards = list_shards(data)
    state = [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in shards]
    summary_path = folder / "catalogue.json"
    if build and not _is_current(summary_path, state):
        _build(shards, folder, state)
    load_index.cache_clear()
    content = json.loads(summary_path.read_text(encoding="utf-8"))
    catalogue = Catalogue(
        shards=[str(p) for p in shards],
        counts=content["counts"],
        folder=str(folder),
        views={k: [(s, r, e) for s, r, e in v] for k, v in content["views"].items()},
        features=content["features"],
        damaged=content["damaged"],
    )
    if sum(catalogue.counts) == 0:
        raise ValueError(
            f"--data: expected samples in {data}, got {len(shards)} shards without a whole one"
            f"{': ' + catalogue.damaged[0] if catalogue.damaged else ''}. Make the shards again."
        )
    return catalogue


def _is_current(path: Path, state: list[list[Any]]) -> bool:
    if not path.exists():
        return False
    content = json.loads(path.read_text(encoding="utf-8"))
    return bool(content["version"] == INDEX_VERSION and content["state"] == state)


def _build(shards: list[Path], folder: Path, state: list[list[Any]]) -> None:
    """Index every shard, then write the summary, which makes them valid."""
    folder.mkdir(parents=True, exist_ok=True)
    views: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    features: Counter[str] = Counter()
    counts, damaged = [], []
    for number, path in enumerate(shards):
        index = index_shard(path)
        with atomic_path(folder / f"{number:05d}.json") as temporary:
            temporary.write_text(json.dumps(index.__dict__), encoding="utf-8")
        counts.append(len(index.keys))
        if index.damage:
            damaged.append(f"{path.name}: {index.damage}; {len(index.keys)} samples are used")
        for row, metadata in _read_metadata(path, index):
            features[json.dumps(metadata.get("features", {}), sort_keys=True)] += 1
            for entity, entry in enumerate(metadata["entities"]):
                if isinstance(entry, dict) and entry.get("identity"):
                    views[entry["identity"]].append((number, row, entity))
    if len(features) > 1:
        raise ValueError(
            f"--data: expected the same precomputed features in every sample, got "
            f"{len(features)} kinds in {folder}'s shards. Run precompute for all of them alike."
        )
    summary = {
        "version": INDEX_VERSION,
        "state": state,
        "counts": counts,
        "views": {k: v for k, v in views.items() if len(v) > 1},
        "features": json.loads(next(iter(features), "{}")),
        "damaged": damaged,
    }
    with atomic_path(folder / "catalogue.json") as temporary:
        temporary.write_text(json.dumps(summary), encoding="utf-8")


def _read_metadata(path: Path, index: ShardIndex) -> list[tuple[int, dict[str, Any]]]:
    """The readable metadata of a shard's samples; unreadable ones are found again in training."""
    found = []
    with path.open("rb") as file:
        for row, members in enumerate(index.members):
            offset, size = members["json"]
            file.seek(offset)
            try:
                found.append((row, decode_metadata({"json": file.read(size)})))
            except BadSample:
                continue
    return found
