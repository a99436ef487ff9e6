"""Checkpoints of a run: whole or not at all, whatever happens while one is written.

    RUN/checkpoints/step-00001000/weights.safetensors   trained weights, fp32
                                  ema.safetensors       their moving average, if there is one
                                  optimizer.pt          plain tensors
                                  state.json            step, recipe, sizes of the other files

A checkpoint is written into a folder with another name, flushed to the disk, and then renamed.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

PARTIAL = ".partial-"
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CheckpointNotWritten(OSError):
    """A checkpoint could not be written; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a run needs to go on bit for bit. Random state is a function of seed and step.

    Attributes:
        step: steps done. weights, ema: by parameter name. optimizer: its state dict.
        state: everything else, plain values.
    """

    step: int
    weights: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Any]
    state: dict[str, Any]


def save_snapshot(run: Path, snapshot: Snapshot, keep: int) -> Path:
    """Write a checkpoint, then remove all but the last ``keep``."""
    folder = run / "checkpoints"
    final = folder / f"step-{snapshot.step:08d}"
    partial = folder / f"{PARTIAL}{final.name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(partial, snapshot)
        if final.exists():
            shutil.rmtree(final)
        os.replace(partial, final)
        flush_folder(folder)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not _is_disk_error(error):
            raise
        size = sum(t.nbytes for t in [*snapshot.weights.values(), *snapshot.ema.values()])
        raise CheckpointNotWritten(
            f"--out: expected room for a checkpoint (at least {2 * size / 2**20:.0f} MB) in {run}, "
            f"got {error}. Free some space and run the same command: it goes on from "
            f"{_resume_point(run)}."
        ) from error
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _is_disk_error(error: Exception) -> bool:
    """Whether writing failed for lack of room; safetensors and torch wrap the system's error."""
    if isinstance(error, OSError):
        return error.errno in _FULL_DISK
    text = str(error).lower()
    number = re.search(r"os error (\d+)\)", text)
    if number:
        return int(number[1]) in _FULL_DISK
    return any(sign in text for sign in ("no space", "file too large", "failed writing file"))


def _resume_point(run: Path) -> str:
    found = list_checkpoints(run)
    return f"step {int(found[-1].name.split('-')[1])}" if found else "the beginning"


def _write(folder: Path, snapshot: Snapshot) -> None:
    for name, tensors in (("weights", snapshot.weights), ("ema", snapshot.ema)):
        if tensors:
            plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
            save_file(plain, folder / f"{name}.safetensors")
    torch.save(snapshot.optimizer, folder / "optimizer.pt")
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    state = {**snapshot.state, "step": snapshot.step, "files": sizes}
    (folder / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    flush_folder(folder)


def flush_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_checkpoints(run: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"))


def remove_partial(run: Path) -> None:
    """Remove what a kill left half-written."""
    for path in (run / "checkpoints").glob(f"{PARTIAL}*"):
        shutil.rmtree(path, ignore_errors=True)


def newest_intact(run: Path) -> Path | None:
    """The newest checkpoint whose files are all there in full length; others are named."""
    for folder in reversed(list_checkpoints(run)):
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            found = {name: (folder / name).stat().st_size for name in state["files"]}
            if found == state["files"]:
                return folder
            problem = "a file of another size"
        except (OSError, ValueError, KeyError) as error:
            problem = str(error)
        warnings.warn(
            f"{folder}: expected a whole checkpoint, got {problem}. An earlier one is used.",
            stacklevel=2,
        )
    return None


def load_snapshot(folder: Path) -> Snapshot:
    """Read a checkpoint."""
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    ema = folder / "ema.safetensors"
    return Snapshot(
        step=state["step"],
        weights=load_file(folder / "weights.safetensors"),
        ema=load_file(ema) if ema.exists() else {},
        optimizer=torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True),
        state=state,
    )
