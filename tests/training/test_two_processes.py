"""Two processes on one machine give the losses of one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from own_pictures import write_pictures
from training_runs import log_rows, train_arguments

from training.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ("steps=6", "global_batch_size=8", "micro_batch_size=2", "checkpoint_every=3")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    listed = write_pictures(tmp_path / "pictures", count=10)
    shards = tmp_path / "shards"
    common = ["--recipe", "debug_cpu", "--variants", "2"]
    main(["precompute", "--jsonl", str(listed), "--out", str(shards), *common])
    one, two = tmp_path / "one", tmp_path / "two"
    main(train_arguments(shards / "train", one, *SETTINGS))
    launcher = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
        f"--master-port={free_port()}", "-m", "training",
    ]  # fmt: skip
    subprocess.run(
        [*launcher, *train_arguments(shards / "train", two, *SETTINGS)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=900,
    )
    rows_one, rows_two = log_rows(one), log_rows(two)
    assert [row["step"] for row in rows_two] == [1, 2, 3, 4, 5, 6]
    for a, b in zip(rows_one, rows_two, strict=True):
        for name in ("mse", "maps", "loss", "norm"):
            assert b[name] == pytest.approx(a[name], abs=1e-5), (a["step"], name)
    assert len({row["loss"] for row in rows_one}) == 6
