"""Running the stages in this process: batch after batch, each kept in the store when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from functools import partial

from .reading import Found
from .record import Quarantined, Record
from .stages import Job, Stage, Work, advance, batched
from .store import Ending, Store

BATCH = 32  # pictures between two writes into the store

Say = Callable[[int], object]


class Loaded:
    """The work of each stage, loaded when a picture first needs it."""

    def __init__(self) -> None:
        self.works: dict[str, Work] = {}

    def work(self, stage: Stage) -> Work:
        """The stage's work."""
        if stage.name not in self.works:
            self.works[stage.name] = stage.load()
        return self.works[stage.name]


def run_here(found: Found, stages: Sequence[Stage], store: Store, done: Say) -> None:
    """Take all pictures of a source through the stages.

    Args:
        done: is told of so many pictures more.
    """
    loaded = Loaded()
    for batch in batched(found, batch_of(stages)):
        jobs, left_out = jobs_of(batch, store)
        for stage in stages:
            advance(stage, partial(loaded.work, stage), jobs)
        store.write(jobs, left_out)
        done(len(batch))


def batch_of(stages: Sequence[Stage]) -> int:
    """Pictures between two writes: enough for the largest batch of a network."""
    return max(BATCH, *(stage.batch_size for stage in stages))


def jobs_of(
    batch: Iterable[Record | Quarantined], store: Store, taken: Set[str] = frozenset()
) -> tuple[list[Job], list[Ending]]:
    """The jobs of a batch with what is known of them, and what is left out of it already.

    Args:
        taken: keys of this run that are not in the store yet.
    """
    records: dict[str, Record] = {}
    left_out: dict[str, Ending] = {}
    batch = list(batch)
    seen = store.seen([each.key for each in batch]) | taken
    for each in batch:
        if isinstance(each, Record) and each.key not in records and each.key not in seen:
            records[each.key] = each
        elif isinstance(each, Record):
            twice = Quarantined(key=each.key, picture=each.picture, reason="listed twice")
            key = f"{each.key}-again"
            left_out[key] = _left_out(key, twice)
        else:
            left_out[each.key] = _left_out(each.key, each)
    known = store.known(list(records))
    jobs = [Job(fields=r.to_fields(), known=known[key]) for key, r in records.items()]
    return jobs, list(left_out.values())


def _left_out(key: str, found: Quarantined) -> Ending:
    record = Record(key=key, picture=found.picture)
    return Ending(
        key=key,
        kind="quarantined",
        stage="",
        fields=record.to_fields(),
        reason=found.reason,
        detail=found.detail,
    )
