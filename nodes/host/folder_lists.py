"""The files below a folder, read again only where a folder has changed since."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import NamedTuple

# A folder that changed so lately may change again without another time stamp.
SETTLED_NS = 2_000_000_000


class _Folder(NamedTuple):
    """What lies right in a folder whose last change was at `changed_ns`."""

    changed_ns: int
    files: tuple[str, ...]
    folders: tuple[str, ...]


_known: dict[str, _Folder] = {}


def files_below(top: str, extensions: tuple[str, ...]) -> Iterator[str]:
    """Paths relative to `top` of the files with one of these extensions, in any order."""
    seen: set[str] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        path = os.path.join(top, below)
        real = os.path.realpath(path)
        if real in seen:  # a link back to where it came from
            continue
        seen.add(real)
        folder = _read(path)
        for name in folder.files:
            if name.endswith(extensions):
                yield os.path.join(below, name)
        waiting += [os.path.join(below, name) for name in folder.folders]


def _read(path: str) -> _Folder:
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        _known.pop(path, None)
        return _Folder(0, (), ())
    known = _known.get(path)
    if known is None or known.changed_ns != changed:
        known = _scan(path, changed)
        if time.time_ns() - changed > SETTLED_NS:
            _known[path] = known
    return known


def _scan(path: str, changed_ns: int) -> _Folder:
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError:
        return _Folder(0, (), ())
    return _Folder(changed_ns, tuple(files), tuple(folders))
