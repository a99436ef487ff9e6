"""Running the stages on Ray Data: a pool of workers for each network, another for the rest.

Ray streams the pictures through the pools, holds back whoever is faster than the next, and starts
workers anew that die, with the pictures they had. Only this process writes into the store, so that
what is known, and therefore the end, is the same as without a cluster. Pictures and models have to
be at the same paths on all machines.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from .engine import BATCH, Loaded, Say, jobs_of
from .reading import Found
from .settings import CurationSettings, settings_of
from .stages import Fields, Job, Result, Stage, advance, batched
from .store import Ending, Store

WINDOW = 16_384  # pictures that are handed to Ray at once
BLOCK = 32  # pictures that travel together
PACKAGES = ("training", "subject_diffusion_core")
LOCAL = "local"


def pools_of(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Consecutive stages that share their workers: each network begins a pool."""
    pools: list[list[Stage]] = [[]]
    for stage in stages:
        if stage.has_model and pools[-1]:
            pools.append([])
        pools[-1].append(stage)
    return pools


class PoolWorker:
    """What a worker of a pool does: takes jobs through its stages, models loaded at first need."""

    def __init__(self, settings: Fields, names: Sequence[str]) -> None:
        from .pipeline import stages_of

        self.stages = [s for s in stages_of(settings_of(settings)) if s.name in names]
        self.loaded = Loaded()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch of jobs as texts, in and out; "stop" tells of a model that cannot be loaded."""
        stop = next(filter(None, batch["stop"]), "")
        jobs = [job_of(text) for text in batch["job"]]
        try:
            for stage in self.stages:
                if not stop:
                    advance(stage, partial(self.loaded.work, stage), jobs)
        except ValueError as error:
            stop = str(error)
        return {"job": [text_of(job) for job in jobs], "stop": [stop] * len(jobs)}


def text_of(job: Job) -> str:
    """A job as JSON, to travel."""
    return json.dumps(asdict(job))


def job_of(text: str) -> Job:
    """The job of :func:`text_of`."""
    plain = json.loads(text)
    end = plain["end"]
    return Job(
        fields=plain["fields"],
        known={stage: Result(**result) for stage, result in plain["known"].items()},
        fresh={stage: Result(**result) for stage, result in plain["fresh"].items()},
        end=None if end is None else (end[0], Result(**end[1])),
        drops=plain["drops"],
    )


class Cluster:
    """An engine for build.Build.

    Args:
        address: of a running Ray cluster; LOCAL = one on this machine, for this run.
    """

    def __init__(self, settings: CurationSettings, address: str) -> None:
        self.settings, self.address = settings, address

    def __call__(self, found: Found, stages: Sequence[Stage], store: Store, done: Say) -> None:
        """Take all pictures of a source through the stages, as engine.run_here does."""
        pools = pools_of(stages)
        with self._connected(sum(map(self._workers, pools))):
            for jobs, left_out in _windows(found, store):
                store.write([], left_out)
                done(len(left_out))
                for finished in self._stream(pools, jobs):
                    store.write(finished)
                    done(len(finished))

    @contextmanager
    def _connected(self, workers: int) -> Iterator[None]:
        """The cluster; one of our own, with a processor for each worker, ends with the block."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        root = Path(__file__).resolve().parents[2]
        code = {"py_modules": [str(root / name) for name in PACKAGES]}
        own = self.address == LOCAL
        ray.init(
            address=self.address,
            num_cpus=workers + 1 if own else None,
            runtime_env=None if own else code,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            yield
        finally:
            ray.shutdown()

    def _workers(self, pool: Sequence[Stage]) -> int:
        return pool[0].processes if pool[0].has_model else self.settings.readers

    def _stream(self, pools: Sequence[Sequence[Stage]], jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """Finished jobs, batch by batch, in whatever order they finish."""
        import ray

        if not jobs:
            return
        blocks = -(-len(jobs) // BLOCK)
        rows = [{"job": text_of(job), "stop": ""} for job in jobs]
        data: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=blocks)
        for pool in pools:
            data = data.map_batches(
                PoolWorker,
                fn_constructor_args=(asdict(self.settings), [stage.name for stage in pool]),
                batch_size=max(stage.batch_size for stage in pool),
                compute=ray.data.ActorPoolStrategy(size=self._workers(pool)),
                num_gpus=pool[0].gpus or None,
            )
        for batch in data.iter_batches(batch_size=BLOCK):
            if stop := next(filter(None, batch["stop"]), ""):
                raise ValueError(stop)
            yield [job_of(text) for text in batch["job"]]


def _windows(found: Found, store: Store) -> Iterator[tuple[list[Job], list[Ending]]]:
    """Jobs by the window, and what is left out of each."""
    for window in batched(found, WINDOW):
        jobs: list[Job] = []
        left_out: list[Ending] = []
        keys: set[str] = set()
        for batch in batched(window, BATCH):
            new, others = jobs_of(batch, store, keys)
            keys |= {job.fields["key"] for job in new}
            jobs += new
            left_out += others
        yield jobs, left_out
