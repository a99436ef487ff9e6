"""What is known of every picture, in one SQLite file: results by stage, and how each ended.

A batch of pictures is written in one transaction, so that a kill at any moment loses at most what
was not yet written, and nothing stands in it twice.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .stages import Fields, Job, Result

VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS result (
  key TEXT, stage TEXT, run INTEGER, failed INTEGER, quarantined INTEGER, content TEXT,
  PRIMARY KEY (key, stage)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ending (
  key TEXT PRIMARY KEY, run INTEGER, kind TEXT, stage TEXT, mixed TEXT, content TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ending_order ON ending (kind, mixed);
"""
KINDS = ("kept", "dropped", "quarantined", "failed")


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a picture ended: kept, dropped (by a filter), quarantined or failed.

    Attributes:
        stage: the one that ended it; "" = kept, or left out while reading.
        fields: its record as far as it got.
        reason, detail: of quarantined and failed ones.
        drops: what filters took away, as JSON, also of pictures that are kept.
    """

    key: str
    kind: str
    stage: str
    fields: Fields
    reason: str = ""
    detail: str = ""
    drops: list[Fields] = field(default_factory=list)


class Store:
    """The store of one working folder; a context that closes it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(path)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.connection.executescript(TABLES)
        found = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, VERSION):
            raise ValueError(
                f"--out: expected a working folder of version {VERSION}, got version {found} in "
                f"{path}. Use the program that made it, or another folder."
            )
        self.connection.execute(f"PRAGMA user_version = {VERSION}")
        last = self.connection.execute("SELECT max(run) FROM ending").fetchone()[0]
        self.run = (last or 0) + 1

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def known(self, keys: Sequence[str]) -> dict[str, dict[str, Result]]:
        """Results of earlier runs: key -> stage -> result."""
        found: dict[str, dict[str, Result]] = {key: {} for key in keys}
        marks = ",".join("?" * len(keys))
        rows = self.connection.execute(
            f"SELECT key, stage, content FROM result WHERE key IN ({marks})", list(keys)
        )
        for key, stage, content in rows:
            found[key][stage] = Result(**json.loads(content))
        return found

    def seen(self, keys: Sequence[str]) -> set[str]:
        """Which keys have ended in this run."""
        marks = ",".join("?" * len(keys))
        rows = self.connection.execute(
            f"SELECT key FROM ending WHERE run = ? AND key IN ({marks})", [self.run, *keys]
        )
        return {key for (key,) in rows}

    def write(self, jobs: Sequence[Job], left_out: Sequence[Ending] = ()) -> None:
        """Keep the fresh results of jobs and how they ended, all or nothing."""
        results = [
            (job.fields["key"], stage, self.run, r.failed, bool(r.reason), json.dumps(vars(r)))
            for job in jobs
            for stage, r in job.fresh.items()
        ]
        endings = [self._row(ending) for ending in (*map(ending_of, jobs), *left_out)]
        with self.connection:
            self.connection.executemany("REPLACE INTO result VALUES (?, ?, ?, ?, ?, ?)", results)
            self.connection.executemany("REPLACE INTO ending VALUES (?, ?, ?, ?, ?, ?)", endings)

    def _row(self, ending: Ending) -> tuple[Any, ...]:
        mixed = hashlib.sha256(ending.key.encode()).hexdigest()[:16]
        content = json.dumps(vars(ending))
        return (ending.key, self.run, ending.kind, ending.stage, mixed, content)

    def made_now(self) -> dict[str, set[str]]:
        """Stage -> keys whose result was made in this run, not known from an earlier one."""
        found: dict[str, set[str]] = {}
        rows = self.connection.execute("SELECT stage, key FROM result WHERE run = ?", [self.run])
        for stage, key in rows:
            found.setdefault(stage, set()).add(key)
        return found

    def read_now(self) -> bool:
        """Whether this run has read anything."""
        rows = self.connection.execute("SELECT 1 FROM ending WHERE run = ? LIMIT 1", [self.run])
        return rows.fetchone() is not None

    def forget_removed(self) -> int:
        """Leave out what the source no longer has: its endings; the number of them."""
        with self.connection:
            done = self.connection.execute("DELETE FROM ending WHERE run < ?", [self.run])
        return done.rowcount

    def forget_faults(self) -> int:
        """Forget results that quarantined a picture or failed, so that they are tried again."""
        with self.connection:
            done = self.connection.execute("DELETE FROM result WHERE failed OR quarantined")
        return done.rowcount

    def count(self, kind: str) -> int:
        """Pictures that ended so."""
        rows = self.connection.execute("SELECT count(*) FROM ending WHERE kind = ?", [kind])
        return int(rows.fetchone()[0])

    def kept(self, keys: Sequence[str]) -> list[Ending]:
        """The endings of kept pictures, in the order of their keys."""
        marks = ",".join("?" * len(keys))
        rows = self.connection.execute(
            f"SELECT key, content FROM ending WHERE key IN ({marks})", list(keys)
        )
        found = dict(rows)
        return [Ending(**json.loads(found[key])) for key in keys]

    def endings(self, kind: str) -> Iterator[Ending]:
        """Pictures that ended so, in an order that mixes them and is the same at every run."""
        rows = self.connection.execute(
            "SELECT content FROM ending WHERE kind = ? ORDER BY mixed", [kind]
        )
        for (content,) in rows:
            yield Ending(**json.loads(content))


def ending_of(job: Job) -> Ending:
    """How a job that went through all stages ended."""
    key = str(job.fields["key"])
    if job.end is None:
        return Ending(key=key, kind="kept", stage="", fields=job.fields, drops=job.drops)
    stage, result = job.end
    kind = "failed" if result.failed else "quarantined" if result.reason else "dropped"
    return Ending(
        key=key,
        kind=kind,
        stage=stage,
        fields=job.fields,
        reason=result.reason,
        detail=result.detail,
        drops=job.drops,
    )
