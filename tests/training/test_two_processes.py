"""Two processes on one machine give the losses of one, with whole weights in each or in pieces."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from own_pictures import write_pictures
from PIL import Image
from training_runs import last_checkpoint, log_rows, train_arguments

from devtools.patience import PATIENCE_SECONDS
from subject_diffusion_core import checkpoint
from training.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = (
    "steps=6", "global_batch_size=8", "micro_batch_size=2", "checkpoint_every=3", "sheet_every=6",
)  # fmt: skip
ALPHA = "mid_block.attentions.0.transformer_blocks.0.fuser.alpha_attn"
DDP, FSDP = ["-m", "training"], [str(Path(__file__).with_name("fsdp_on_cpus.py"))]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    listed = write_pictures(folder / "pictures", count=10)
    common = ["--recipe", "debug_cpu", "--variants", "2", "--held-out", "1"]
    main(["precompute", "--jsonl", str(listed), "--out", str(folder / "shards"), *common])
    return folder / "shards" / "train"


@pytest.fixture(scope="module")
def one_process(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "one"
    main(train_arguments(shards, run, *SETTINGS))
    return run


def train_in_two(program: list[str], shards: Path, run: Path) -> None:
    launcher = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2",
        f"--master-port={free_port()}", *program,
    ]  # fmt: skip
    subprocess.run(
        [*launcher, *train_arguments(shards, run, *SETTINGS)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=PATIENCE_SECONDS,
    )


def assert_same_losses(one: Path, two: Path) -> None:
    rows_one, rows_two = log_rows(one), log_rows(two)
    assert [row["step"] for row in rows_two] == [1, 2, 3, 4, 5, 6]
    for a, b in zip(rows_one, rows_two, strict=True):
        for name in ("mse", "maps", "loss", "norm"):
            assert b[name] == pytest.approx(a[name], abs=1e-5), (a["step"], name)
    assert len({row["loss"] for row in rows_one}) == 6


def test_ddp_gives_the_losses_of_one(shards: Path, one_process: Path, tmp_path: Path) -> None:
    train_in_two(DDP, shards, tmp_path / "two")
    assert_same_losses(one_process, tmp_path / "two")


def cut_in_half(run: Path, copy: Path) -> Path:
    """A copy of the run as it was after step 3."""
    shutil.copytree(run, copy)
    shutil.rmtree(last_checkpoint(copy))
    return copy


def sheet(run: Path) -> np.ndarray:
    return np.asarray(Image.open(run / "sheets" / "step-00000006.png"), np.float32)


def test_fsdp_gives_the_losses_of_one(shards: Path, one_process: Path, tmp_path: Path) -> None:
    run = tmp_path / "two"
    train_in_two(FSDP, shards, run)
    assert_same_losses(one_process, run)
    assert np.abs(sheet(run) - sheet(one_process)).max() <= 2
    main(["export", "--run", str(run), "--out", str(tmp_path / "adapter.safetensors")])
    assert checkpoint.load(tmp_path / "adapter.safetensors").unet[ALPHA].shape == ()

    begun_in_two = cut_in_half(run, tmp_path / "begun-in-two")
    main(train_arguments(shards, begun_in_two, *SETTINGS))
    begun_in_one = cut_in_half(one_process, tmp_path / "begun-in-one")
    train_in_two(FSDP, shards, begun_in_one)
    last = log_rows(one_process)[-1]["loss"]
    for continued in (begun_in_two, begun_in_one):
        assert log_rows(continued)[-1]["loss"] == pytest.approx(last, abs=1e-5)
