"""Which pictures are held out: near-duplicates stay together, held-out things stay unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

HASH_BITS = 64


def groups(hashes: np.ndarray, near_bits: int) -> list[int]:
    """The number of the group of each picture, the smallest index in it.

    Pictures are in one group if a chain of them leads from one to the other, each near the next:
    their hashes, (N,) uint64, differ in at most ``near_bits`` bits.

    >>> groups(np.array([0, 255, 3, 15], np.uint64), near_bits=2)
    [0, 1, 0, 0]
    """
    parents = list(range(len(hashes)))
    unique, places, which = np.unique(hashes, return_index=True, return_inverse=True)
    for index, place in enumerate(places[which]):
        _join(parents, int(place), index)
    for left, right in near_pairs(unique, near_bits):
        _join(parents, int(places[left]), int(places[right]))
    return [_root(parents, index) for index in range(len(parents))]


def near_pairs(hashes: np.ndarray, near_bits: int) -> Iterator[tuple[int, int]]:
    """All pairs of (N,) uint64 hashes that differ in at most ``near_bits`` bits.

    Of near_bits + 1 bands of bits two near hashes share at least one, so only those that share a
    band are compared. A pair may come several times.
    """
    if len(hashes) < 2:
        return
    edges = np.linspace(0, HASH_BITS, near_bits + 2).astype(int)
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order[:1]] + np.uint64(1)))
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            yield from _near_within(hashes, order[start:end], near_bits)


def _near_within(
    hashes: np.ndarray, members: np.ndarray, near_bits: int
) -> Iterator[tuple[int, int]]:
    for number, one in enumerate(members[:-1]):
        others = members[number + 1 :]
        differing = bit_counts(hashes[others] ^ hashes[one])
        for other in others[differing <= near_bits]:
            yield int(one), int(other)


def bit_counts(values: np.ndarray) -> np.ndarray:
    """(N,) ones in each of (N,) uint64.

    >>> bit_counts(np.array([0, 7, 2**64 - 1], np.uint64)).tolist()
    [0, 3, 64]
    """
    bits = np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1)
    return np.asarray(bits.sum(1))


def held_out_groups(
    keys: Sequence[str], found: Sequence[int], identities: Sequence[Sequence[str]], share: float
) -> set[int]:
    """The groups that are held out: those that show a held-out thing; of the others, where
    nothing has an identity, a share of the groups.

    Args:
        keys, found, identities: of each picture: its key, its group, the things it shows.
    """
    shown: dict[int, set[str]] = {group: set() for group in found}
    for group, names in zip(found, identities, strict=True):
        shown[group].update(names)
    return {
        group
        for group, names in shown.items()
        if any(is_drawn(name, share) for name in names or {keys[group]})
    }


def is_drawn(name: str, share: float) -> bool:
    """True for a share of all names: by a hash, the same at every run."""
    drawn = int.from_bytes(hashlib.sha256(f"side {name}".encode()).digest()[:8], "big")
    return drawn < share * 2**64


def _root(parents: list[int], index: int) -> int:
    while parents[index] != index:
        parents[index] = parents[parents[index]]
        index = parents[index]
    return index


def _join(parents: list[int], one: int, other: int) -> None:
    first, second = sorted((_root(parents, one), _root(parents, other)))
    parents[second] = first
