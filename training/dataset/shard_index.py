"""Where each member of each sample of a shard lies, found once and kept beside the run.

An index belongs to its shard as it was when indexed (size and time), so that a new shard costs only
its own indexing.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..runs import write_json
from .bad_sample import BadSample
from .layout import FEATURES, PICTURE_SUFFIXES, decode_metadata
from .members import Members

INDEX_VERSION = 2
Places = dict[str, tuple[int, int]]  # suffix -> offset, size


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """Samples of a shard.

    Attributes:
        path: of the shard. keys: of the samples.
        suffixes: of all members; places: (samples, suffixes, 2) offset and size, -1 for none.
        identities: of each sample's entities, "" for none.
        features: what was computed before, as text -> number of samples that say so.
        damage: what is wrong with the file, if anything.
    """

    path: str
    keys: list[str]
    suffixes: list[str]
    places: np.ndarray
    identities: list[list[str]]
    features: dict[str, int]
    damage: str

    def members(self, row: int) -> Members:
        """The files of a sample."""
        found = {
            suffix: (int(offset), int(size))
            for suffix, (offset, size) in zip(self.suffixes, self.places[row], strict=True)
            if offset >= 0
        }
        return Members(shard=self.path, places=found)


def shard_state(path: Path) -> list[int]:
    """What tells a shard from another one under its name."""
    status = path.stat()
    return [INDEX_VERSION, status.st_size, status.st_mtime_ns]


def open_index(shard: Path, folder: Path, build: bool) -> ShardIndex:
    """The index of a shard, made where it is new or out of date (and ``build``)."""
    path = folder / f"{shard.name}.index.json"
    content = _read(path)
    if content is None or (build and content["state"] != shard_state(shard)):
        if not build:
            raise FileNotFoundError(f"{path}: expected the first process to have built it.")
        content = _index(shard)
        write_json(path, content)
    sizes = (len(content["keys"]), len(content["suffixes"]), 2)
    places = np.array(content["places"], np.int64).reshape(sizes)
    names = ("keys", "suffixes", "identities", "features", "damage")
    kept = {name: content[name] for name in names}
    return ShardIndex(path=str(shard), places=places, **kept)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return dict(content) if isinstance(content, dict) and "state" in content else None


def _index(path: Path) -> dict[str, Any]:
    """Find every whole sample; a damaged end costs only what lies in it."""
    state = shard_state(path)
    samples, damage = _find_members(path, state[1])
    content = {FEATURES, *PICTURE_SUFFIXES}
    whole = {k: m for k, m in samples.items() if "json" in m and content & m.keys()}
    if not damage and len(whole) < len(samples):
        damage = f"{len(samples) - len(whole)} samples without picture or metadata"
    suffixes = sorted({suffix for members in whole.values() for suffix in members})
    identities, features = [], Counter[str]()
    for members in whole.values():
        metadata = _metadata(Members(shard=str(path), places=members))
        if metadata:
            features[json.dumps(metadata.get("features", {}), sort_keys=True)] += 1
        identities.append([_identity(entry) for entry in metadata.get("entities", [])])
    return {
        "state": state,
        "keys": list(whole),
        "suffixes": suffixes,
        "places": [[members.get(s, (-1, -1)) for s in suffixes] for members in whole.values()],
        "identities": identities,
        "features": dict(features),
        "damage": damage,
    }


def _find_members(path: Path, size: int) -> tuple[dict[str, Places], str]:
    """Sample -> its members, and what is wrong with the file."""
    samples: dict[str, Places] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                stem, _, suffix = Path(member.name).name.partition(".")
                key = str(Path(member.name).parent / stem) if "/" in member.name else stem
                if member.offset_data + member.size > size:
                    samples.pop(key, None)
                    return samples, "cut short"
                if member.isfile():
                    samples.setdefault(key, {})[suffix] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        return samples, f"not a whole .tar file ({error})"
    return samples, ""


def _metadata(members: Members) -> dict[str, Any]:
    """A sample's metadata; {} where it is unreadable, which is found again in training."""
    try:
        return decode_metadata(members)
    except BadSample:
        return {}


def _identity(entry: Any) -> str:
    found = entry.get("identity", "") if isinstance(entry, dict) else ""
    return found if isinstance(found, str) else ""
