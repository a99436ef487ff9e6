"""A whole build: pictures through the stages, then shards and the report.

OUT/train and OUT/held-out hold the shards, OUT/work the store, the settings of the last build, the
report. Whatever is killed whenever: the same build again ends with the same samples.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from ..runs import write_json
from .engine import Say, run_here
from .pipeline import stages_of
from .reading import Found, read_source
from .settings import CurationSettings, settings_of
from .shards import SIDES, ShardWriter, assign
from .stages import Stage
from .store import Store
from .tally import write_report

WORK, BUILD = "work", "build.json"
Engine = Callable[[Found, Sequence[Stage], Store, Say], None]


@dataclass(frozen=True, kw_only=True)
class Build:
    """What is built from where.

    Attributes:
        pictures: a source of reading.read_source. out: the folder of the dataset.
        processes: that write shards.
    """

    pictures: Path
    out: Path
    settings: CurationSettings
    processes: int = 1

    def run(self, engine: Engine = run_here) -> dict[str, Any]:
        """Bring the dataset up to date; the report (tally.py)."""
        found = read_source(self.pictures)
        with locked(self.out), Store(self.out / WORK / "store.sqlite") as store:
            self._remember()
            stages = stages_of(self.settings)
            with tqdm(desc="pictures", unit="") as bar:
                engine(found, stages, store, bar.update)
            if not store.read_now():
                raise ValueError(
                    f"--pictures: expected pictures, got none in {self.pictures}. {self.out} is as "
                    "it was: correct the path."
                )
            store.forget_removed()
            return self._write(store)

    def _write(self, store: Store) -> dict[str, Any]:
        assignment = assign(store, self.settings)
        notes = {}
        total = sum(len(keys) for keys in assignment.sides.values())
        with tqdm(desc="samples in shards", total=total, unit="") as bar:
            writer = ShardWriter(
                store=store,
                samples_per_shard=self.settings.samples_per_shard,
                processes=self.processes,
                done=bar.update,
            )
            for side in SIDES:
                keys = assignment.sides[side]
                notes[side] = writer.write(self.out / side, keys, assignment.digests)
        return write_report(self.out / WORK, store, self.settings, assignment, notes)

    def _remember(self) -> None:
        content = {"pictures": str(self.pictures.resolve()), "settings": asdict(self.settings)}
        write_json(self.out / WORK / BUILD, content, indent=1)


def last_build(out: Path, processes: int = 1) -> Build:
    """The build that a folder is of, to run it again."""
    path = out / WORK / BUILD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--out: expected the folder of a build, got {out} without {WORK}/{BUILD}. Run `data "
            "build` first."
        ) from error
    return Build(
        pictures=Path(content["pictures"]),
        out=out,
        settings=settings_of(content["settings"]),
        processes=processes,
    )


def retry(build: Build, engine: Engine = run_here) -> dict[str, Any]:
    """Try again what failed or was quarantined, and nothing else that still holds."""
    with locked(build.out), Store(build.out / WORK / "store.sqlite") as store:
        store.forget_faults()
    return build.run(engine)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """One build at a time in a folder."""
    (out / WORK).mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / WORK / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"--out: expected a folder that no other build writes, got {out}. Wait for it."
        ) from error
    try:
        yield
    finally:
        lock.release()
