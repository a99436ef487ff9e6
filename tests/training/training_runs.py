"""Starts debug_cpu runs in processes of their own and compares what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from devtools.patience import PATIENCE_SECONDS

RUNNER = Path(__file__).with_name("forking_runner.py")


class WarmRunner:
    """The warm process; ``start`` forks a run from it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(RUNNER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._reply() == "ready"

    def _reply(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def _ask(self, request: dict[str, Any]) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self._reply()

    def start(self, arguments: list[str], log: Path, hold: int | None = None) -> int:
        """Fork a run, which waits after step ``hold``; returns its process id."""
        return int(self._ask({"arguments": arguments, "log": str(log), "hold": hold}))

    def wait(self, process: int) -> int:
        """Its exit status; negative for a signal."""
        return int(self._ask({"wait": process}))

    def run(self, arguments: list[str], log: Path) -> int:
        """Start and wait."""
        return self.wait(self.start(arguments, log))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE_SECONDS)


def train_arguments(data: Path, out: Path, *settings: str) -> list[str]:
    """``train`` with the recipe debug_cpu."""
    arguments = ["train", "--recipe", "debug_cpu", "--data", str(data), "--out", str(out)]
    return [*arguments, *(part for setting in settings for part in ("--set", setting))]


def last_checkpoint(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("step-*"))[-1]


def same_tensors(a: Any, b: Any) -> bool:
    """Whether two nested states hold bit-equal values."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_tensors(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_tensors, a, b))
    return bool(a == b)


def assert_same_end(first: Path, second: Path) -> None:
    """Weights, average, optimiser and counters of two runs' last checkpoints are bit-equal."""
    one, two = last_checkpoint(first), last_checkpoint(second)
    assert one.name == two.name
    for name in ("weights", "ema"):
        file = f"{name}.safetensors"
        assert same_tensors(load_file(one / file), load_file(two / file)), name
    states = [torch.load(p / "optimizer.pt", weights_only=True) for p in (one, two)]
    assert same_tensors(*states)
    counters = [json.loads((p / "state.json").read_text()) for p in (one, two)]
    for name in ("step", "bad_steps", "num_skipped", "counts"):
        assert counters[0][name] == counters[1][name], name


def log_rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
