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

from .engine import Loaded, Say, batch_of, jobs_of
from .reading import Found
from .settings import CurationSettings, settings_of
from .stages import Fields, Job, Result, Stage, advance, batched
from .store import Store

WINDOW = 512  # rows that are handed to Ray at once, each of a batch of pictures
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
        """Rows of jobs as text, in and out; "stop" tells of a model that cannot be loaded."""
        rows = [self._row(*row) for row in zip(batch["jobs"], batch["stop"], strict=True)]
        return {"jobs": [text for text, _ in rows], "stop": [stop for _, stop in rows]}

    def _row(self, text: str, stop: str) -> tuple[str, str]:
        if stop:
            return text, stop
        jobs = jobs_from(text)
        try:
            for stage in self.stages:
                advance(stage, partial(self.loaded.work, stage), jobs)
        except ValueError as error:
            return text, str(error)
        return text_of(jobs), ""


def text_of(jobs: Sequence[Job]) -> str:
    """Jobs as JSON, to travel."""
    return json.dumps([asdict(job) for job in jobs])


def jobs_from(text: str) -> list[Job]:
    """The jobs of :func:`text_of`."""
    return [_job_from(plain) for plain in json.loads(text)]


def _job_from(plain: dict[str, Any]) -> Job:
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
            for window in batched(batched(found, batch_of(stages)), WINDOW):
                rows = []
                keys: set[str] = set()
                for batch in window:
                    jobs, left_out = jobs_of(batch, store, keys)
                    keys |= {job.fields["key"] for job in jobs}
                    store.write([], left_out)
                    done(len(left_out))
                    rows += [{"jobs": text_of(jobs), "stop": ""}] if jobs else []
                for finished in self._stream(pools, rows):
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

    def _stream(
        self, pools: Sequence[Sequence[Stage]], rows: list[dict[str, str]]
    ) -> Iterator[list[Job]]:
        """Finished jobs, row by row, in whatever order they finish. A row holds the same pictures
        as a batch of engine.run_here, so that networks get the same batches."""
        import ray

        if not rows:
            return
        data: ray.data.Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
        for pool in pools:
            data = data.map_batches(
                PoolWorker,
                fn_constructor_args=(asdict(self.settings), [stage.name for stage in pool]),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=self._workers(pool)),
                num_gpus=pool[0].gpus or None,
            )
        for row in data.iter_rows():
            if row["stop"]:
                raise ValueError(row["stop"])
            yield jobs_from(row["jobs"])
