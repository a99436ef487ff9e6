"""kill -9 at any moment, then the same command: the end is that of the uninterrupted run."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_pictures import write_pictures
from training_runs import (
    WarmRunner,
    assert_same_end,
    last_checkpoint,
    log_rows,
    train_arguments,
)

from training.__main__ import main

NUM_KILLS = 20
STEPS = 48
LAST_STEPS = 2  # a kill comes within the start of a run and this many steps, after which it waits
SETTINGS = (f"steps={STEPS}", "checkpoint_every=1", "log_every=1", "micro_batch_size=4")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    listed = write_pictures(folder / "pictures", count=8)
    arguments = ["precompute", "--jsonl", str(listed), "--out", str(folder / "shards")]
    main([*arguments, "--recipe", "debug_cpu", "--variants", "2", "--samples-per-shard", "3"])
    return folder / "shards" / "train"


@pytest.fixture(scope="module")
def runner() -> Iterator[WarmRunner]:
    warm = WarmRunner()
    yield warm
    warm.close()


def newest_step(run: Path) -> int:
    steps = [int(path.name.split("-")[1]) for path in (run / "checkpoints").glob("step-*")]
    return max(steps, default=0)


def test_twenty_kills_leave_no_trace(shards: Path, runner: WarmRunner, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    begun = time.monotonic()
    process = runner.start(train_arguments(shards, whole, *SETTINGS), tmp_path / "whole.log")
    while not newest_step(whole):
        time.sleep(0.01)
    start = time.monotonic() - begun
    assert runner.wait(process) == 0
    step = (time.monotonic() - begun - start) / (STEPS - 1)
    draw = random.Random(0)
    arguments = train_arguments(shards, cut, *SETTINGS)
    for _ in range(NUM_KILLS):
        hold = newest_step(cut) + LAST_STEPS
        process = runner.start(arguments, tmp_path / "cut.log", hold)
        time.sleep(draw.uniform(0, start + LAST_STEPS * step))
        os.kill(process, signal.SIGKILL)
        status = runner.wait(process)
        assert status == -signal.SIGKILL, (tmp_path / "cut.log").read_text()[-2000:]
    assert last_checkpoint(cut).name < f"step-{STEPS:08d}"
    assert runner.run(arguments, tmp_path / "cut.log") == 0
    assert_same_end(whole, cut)
    losses = [[row["loss"] for row in log_rows(run)] for run in (whole, cut)]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS
    assert not list((cut / "checkpoints").glob(".partial*"))
