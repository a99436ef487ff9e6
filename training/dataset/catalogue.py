"""What a folder of shards holds, and reading any sample of it by shard and row."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from .members import Members
from .reference_pool import POOL_NAME, ReferencePool
from .shard_index import ShardIndex, open_index


def list_shards(data: Path) -> list[Path]:
    """The .tar files of a folder, or the one file."""
    shards = sorted(data.glob("*.tar")) if data.is_dir() else [data]
    if not shards or not shards[0].is_file():
        raise FileNotFoundError(
            f"--data: expected a folder of .tar shards, got none in {data}. "
            "Make them with `python -m training precompute`."
        )
    return shards


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All shards of a folder.

    Attributes:
        shards: paths. counts: their numbers of whole samples. indices: of the shards.
        views: identity -> (shard, row, entity) of each of its pictures, where there are several.
        features: what was computed before, the same for all samples: kind -> the encoder's mark.
        pool: file of references that the samples share, or None.
        damaged: one sentence per shard that is not whole.
    """

    shards: list[str]
    counts: list[int]
    indices: list[ShardIndex]
    views: dict[str, list[tuple[int, int, int]]]
    features: dict[str, str]
    pool: Path | None = None
    damaged: list[str] = field(default_factory=list)

    def read(self, shard: int, row: int) -> tuple[str, Members]:
        """Key and members of a sample."""
        return self.indices[shard].keys[row], self.indices[shard].members(row)

    def name(self, shard: int, row: int) -> str:
        """How a sample is named in messages."""
        return f"{Path(self.shards[shard]).name}/{self.indices[shard].keys[row]}"

    def num_entities(self) -> list[list[int]]:
        """Subjects of every sample, by shard."""
        return [[len(names) for names in index.identities] for index in self.indices]


def open_catalogue(data: Path, folder: Path, build: bool = True) -> Catalogue:
    """The catalogue of ``data``, its indices in ``folder``; built where new or out of date.

    Args:
        build: False for all processes but the first, after it has built.
    """
    shards = list_shards(data)
    indices = [open_index(path, folder, build) for path in shards]
    pool = shards[0].parent / POOL_NAME
    kinds = sum((Counter(index.features) for index in indices), Counter[str]())
    if len(kinds) > 1:
        raise ValueError(
            f"--data: expected the same precomputed features in every sample, got {len(kinds)} "
            f"kinds in {data}'s shards. Run precompute for all of them alike."
        )
    features = dict(json.loads(next(iter(kinds), "{}")))
    views: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for shard, index in enumerate(indices):
        for row, names in enumerate(index.identities):
            for entity, name in enumerate(names):
                if name:
                    views[name].append((shard, row, entity))
    if pool.is_file():
        features["tokens"] = ReferencePool(pool).mark
    catalogue = Catalogue(
        shards=[str(path) for path in shards],
        counts=[len(index.keys) for index in indices],
        indices=indices,
        views={name: places for name, places in views.items() if len(places) > 1},
        features=features,
        pool=pool if pool.is_file() else None,
        damaged=[
            f"{path.name}: {index.damage}; {len(index.keys)} samples are used"
            for path, index in zip(shards, indices, strict=True)
            if index.damage
        ],
    )
    if sum(catalogue.counts) == 0:
        raise ValueError(
            f"--data: expected samples in {data}, got {len(shards)} shards without a whole one"
            f"{': ' + catalogue.damaged[0] if catalogue.damaged else ''}. Make the shards again."
        )
    return catalogue
