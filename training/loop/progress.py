"""What a person sees of a run: lines, a log file, TensorBoard or Weights & Biases."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import psutil
import torch

from ..recipes.configuration import TrainingRecipe


def memory_gigabytes() -> float:
    """Peak memory of the GPU in this run, or what this process holds on a CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return float(psutil.Process().memory_info().rss) / 2**30


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds.

    >>> duration(3725), duration(65)
    ('1 h 02 min', '1 min 05 s')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


class Progress:
    """Writes ``RUN/log.jsonl`` and the ``recipe``'s boards; nothing here may end a run.

    Args:
        steps: of the whole run. batch_size: samples of a step.
    """

    def __init__(
        self,
        run: Path,
        steps: int,
        batch_size: int,
        first_step: int,
        recipe: TrainingRecipe | None = None,
    ) -> None:
        self.run, self.steps, self.batch_size, self.last_step = run, steps, batch_size, first_step
        self.last_time = time.monotonic()
        self.values: dict[str, list[float]] = {}
        self.failed = False
        _drop_rows_after(run / "log.jsonl", first_step)
        self.board = _tensorboard(run, first_step) if recipe and recipe.tensorboard else None
        self.wandb = _wandb(run, recipe) if recipe and recipe.wandb else None

    def add(self, values: dict[str, float]) -> None:
        """Values of one step; a step may lack some."""
        for name, value in values.items():
            self.values.setdefault(name, []).append(value)

    def report(self, step: int, **extra: float) -> None:
        """Print, log and plot the means since the last report."""
        now = time.monotonic()
        seconds = max(1e-9, now - self.last_time)
        speed = (step - self.last_step) * self.batch_size / seconds
        means = {name: sum(values) / len(values) for name, values in self.values.items()}
        row = {**means, **extra, "samples_per_second": speed, "memory_gb": memory_gigabytes()}
        left = (self.steps - step) * self.batch_size / max(speed, 1e-9)
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in {**means, **extra}.items())
        print(
            f"step {step}/{self.steps}  {numbers}  {speed:.3g} samples/s  "
            f"{row['memory_gb']:.2f} GB  {duration(left)} left",
            flush=True,
        )
        self.last_step, self.last_time = step, now
        self.values = {}
        self._safely(lambda: self._write(step, row))

    def picture(self, step: int, name: str, pixels: Any) -> None:
        """Show a sheet (H, W, 3) uint8."""
        if self.board is not None:
            self._safely(lambda: self.board.add_image(name, pixels, step, dataformats="HWC"))
        if self.wandb is not None:
            self._safely(lambda: self.wandb.log({name: self.wandb.Image(pixels)}, step=step))

    def note(self, kind: str, **values: Any) -> None:
        """One line in ``RUN/events.jsonl``: skipped samples, bad batches."""
        self._safely(lambda: _append(self.run / "events.jsonl", {"event": kind, **values}))

    def close(self) -> None:
        """Flush the boards."""
        if self.board is not None:
            self._safely(self.board.close)
        if self.wandb is not None:
            self._safely(self.wandb.finish)

    def _write(self, step: int, row: dict[str, float]) -> None:
        _append(self.run / "log.jsonl", {"step": step, **row})
        if self.board is not None:
            for name, value in row.items():
                self.board.add_scalar(name, value, step)
        if self.wandb is not None:
            self.wandb.log(row, step=step)

    def _safely(self, action: Any) -> None:
        """A log that cannot be written (a full disk) is said once and costs nothing else."""
        try:
            action()
        except OSError as error:
            if not self.failed:
                warnings.warn(f"log: {error}. Training goes on without it.", stacklevel=3)
            self.failed = True


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _drop_rows_after(path: Path, step: int) -> None:
    """Remove rows of steps that a resumed run does again, and a half-written last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (ValueError, KeyError):
            continue
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    temporary.replace(path)


def _tensorboard(run: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        warnings.warn(
            "tensorboard: expected the package tensorboard, got none. The log file is written "
            "alone; install it, or use --set tensorboard=false.",
            stacklevel=3,
        )
        return None
    return SummaryWriter(str(run / "tensorboard"), purge_step=first_step + 1)


def _wandb(run: Path, recipe: TrainingRecipe) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ModuleNotFoundError(
            "wandb: expected the package wandb, got none. Install it, or use --set wandb=false."
        ) from error
    wandb.init(dir=str(run), config=recipe.as_dict(), name=run.name, resume="allow", id=run.name)
    return wandb
