"""A small copy of shards, to be carried to a GPU: lossy pictures, nothing computed before.

Latents and features are computed where training runs. Samples are taken evenly over all shards
until the folder is full.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .bad_sample import BadSample
from .catalogue import Catalogue
from .layout import TrainingSample, decode_sample
from .shard_file import described, encode_picture, write_shard

BLOCK = 512  # a tar file's unit
SHARD_BYTES = 15_000_000
MARGIN = 60_000  # the ends of tar files


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What was packed: samples, shards and bytes; and samples that could not be read."""

    samples: int
    shards: int
    size: int
    left_out: int


def spread_order(total: int) -> Iterator[int]:
    """0 to total - 1 such that any beginning of it is spread over all.

    >>> list(spread_order(5))
    [0, 2, 4, 1, 3]
    """
    step = max(1, round(total * 0.381966))  # the golden section's smaller part
    while np.gcd(step, total) != 1:
        step += 1
    return ((number * step) % total for number in range(total))


def lossy_members(key: str, sample: TrainingSample, quality: int) -> dict[str, bytes]:
    """A sample's files: the picture as WebP, masks as 1-bit PNG, no features."""
    picture = encode_picture(sample.pixels, "WEBP", quality=quality)
    return {f"{key}.webp": picture, **dict(described(key, sample.caption, sample.entities))}


def pack(catalogue: Catalogue, out: Path, max_bytes: int, quality: int) -> Packed:
    """Write the copy into ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    places = [(s, row) for s, count in enumerate(catalogue.counts) for row in range(count)]
    batch: dict[str, bytes] = {}
    shards = samples = total = left_out = size = 0
    for number in spread_order(len(places)):
        key, members = catalogue.read(*places[number])
        try:
            lossy = lossy_members(f"{number:08d}", decode_sample(key, members), quality)
        except BadSample:
            left_out += 1
            continue
        added = sum(BLOCK + -(-len(content) // BLOCK) * BLOCK for content in lossy.values())
        if total + added > max_bytes - MARGIN:
            break
        if size + added > SHARD_BYTES:
            write_shard(out / f"{shards:05d}.tar", batch.items())
            batch, size, shards = {}, 0, shards + 1
        batch |= lossy
        size, total, samples = size + added, total + added, samples + 1
    if batch:
        write_shard(out / f"{shards:05d}.tar", batch.items())
        shards += 1
    written = sum(path.stat().st_size for path in out.glob("*.tar"))
    return Packed(samples=samples, shards=shards, size=written, left_out=left_out)
