"""A stage of the pipeline: what it reads of a record, what it writes, and when its result holds.

The result of a stage for a picture is kept under a fingerprint: of the stage's mark (its version,
thresholds, model) and of the fields that it reads. A stage runs again where the fingerprint is
another one, and only there: a new threshold of the filters runs no model.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, TypeVar

from .filters import Decision
from .record import Quarantined, Record

Outcome = Record | Quarantined | Decision
Fields = dict[str, Any]
Item = TypeVar("Item")


class Work(Protocol):
    """What a stage does to a batch of records: as many outcomes, in their order."""

    def __call__(self, records: Sequence[Record]) -> Sequence[Outcome]: ...


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step for a picture.

    Attributes:
        name: in the store and the report.
        mark: all that its results depend on besides the record: version, settings, model.
        reads, writes: fields of the record.
        applies: whether a record (as fields) needs it; what came along is left alone.
        load: makes the work, once a process: models are loaded here, and may raise.
        batch_size: records at once.
        reads_files: its results hold while the picture's file has its size and time.
        has_model: it holds a network, so that a cluster gives it workers of its own: so many
            ``processes``, each with a share of a GPU.
    """

    name: str
    mark: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    applies: Callable[[Fields], bool]
    load: Callable[[], Work]
    batch_size: int = 1
    reads_files: bool = False
    has_model: bool = False
    processes: int = 1
    gpus: float = 0.0

    def fingerprint(self, fields: Fields) -> str:
        """Of a record, as this stage sees it."""
        seen: list[Any] = [self.name, self.mark, {name: fields.get(name) for name in self.reads}]
        if self.reads_files:
            seen.append(file_states(fields))
        return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()[:32]


def file_states(fields: Fields) -> list[list[int]]:
    """Size and time of a record's files: the picture, and masks; [] for one that is not there."""
    sources = [entity.get("mask_source", "") for entity in fields.get("entities") or ()]
    return [_state(path) for path in (fields["picture"]["path"], *filter(None, sources))]


def _state(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a stage found for one picture.

    Attributes:
        fingerprint: under which it holds.
        fields: what it wrote; None = the picture goes no further.
        drops: what its filter took away, as JSON.
        reason, detail: why the picture is quarantined, or why the stage failed; "" = neither.
        failed: the stage itself failed (memory, a model's fault): worth a retry.
    """

    fingerprint: str
    fields: Fields | None
    drops: list[Fields] = field(default_factory=list)
    reason: str = ""
    detail: str = ""
    failed: bool = False


@dataclass(kw_only=True)
class Job:
    """A picture on its way through the stages.

    Attributes:
        fields: the record so far, as JSON has it.
        known: results of earlier runs, by stage. fresh: those of this run.
        end: the result that ended its way, and its stage; None = it goes on.
        drops: what filters took away so far.
    """

    fields: Fields
    known: Mapping[str, Result]
    fresh: dict[str, Result] = field(default_factory=dict)
    end: tuple[str, Result] | None = None
    drops: list[Fields] = field(default_factory=list)

    def take(self, stage: str, result: Result) -> None:
        """Go on with a stage's result."""
        self.drops += result.drops
        if result.fields is None:
            self.end = (stage, result)
        else:
            self.fields |= result.fields


def advance(stage: Stage, work: Callable[[], Work], jobs: Sequence[Job]) -> None:
    """Take jobs through one stage, by known results where they hold.

    Args:
        work: gives the stage's loaded work; asked only if a record needs it.
    """
    waiting: list[tuple[Job, str]] = []
    for job in jobs:
        if job.end is not None or not stage.applies(job.fields):
            continue
        fingerprint = stage.fingerprint(job.fields)
        known = job.known.get(stage.name)
        if known is not None and known.fingerprint == fingerprint:
            job.take(stage.name, known)
        else:
            waiting.append((job, fingerprint))
    for batch in batched(waiting, stage.batch_size):
        records = [Record.from_fields(job.fields) for job, _ in batch]
        for (job, fingerprint), outcome in zip(batch, outcomes(work(), records), strict=True):
            result = result_of(stage, fingerprint, outcome)
            job.fresh[stage.name] = result
            job.take(stage.name, result)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` items, the last one shorter.

    >>> list(batched("abc", 2))
    [['a', 'b'], ['c']]
    """
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def outcomes(work: Work, records: Sequence[Record]) -> Sequence[Outcome | Exception]:
    """The work's outcomes; where a batch fails, one by one, so that one record alone fails."""
    try:
        return work(records)
    except Exception as error:  # whatever a model or a library meets: it is listed and retried
        if len(records) == 1:
            return [error]
    return [outcome for record in records for outcome in outcomes(work, [record])]


def result_of(stage: Stage, fingerprint: str, outcome: Outcome | Exception) -> Result:
    """What is kept of an outcome."""
    if isinstance(outcome, Exception):
        detail = f"{type(outcome).__name__}: {outcome}"[:500]
        return Result(
            fingerprint=fingerprint, fields=None, reason="failed", detail=detail, failed=True
        )
    if isinstance(outcome, Quarantined):
        return Result(
            fingerprint=fingerprint, fields=None, reason=outcome.reason, detail=outcome.detail
        )
    drops: list[Fields] = []
    record: Record | None
    if isinstance(outcome, Decision):
        record, drops = outcome.record, [drop.to_fields() for drop in outcome.dropped]
    else:
        record = outcome
    written = None
    if record is not None:
        plain = record.to_fields()
        written = {name: plain[name] for name in stage.writes}
    return Result(fingerprint=fingerprint, fields=written, drops=drops)
