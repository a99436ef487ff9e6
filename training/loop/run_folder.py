"""The folder of a run: one writer at a time, one configuration for ever."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..recipes.configuration import TrainingRecipe
from ..runs import atomic_path

CONFIG_NAME = "config.json"
FREE_SETTINGS = {
    "summary", "num_workers", "num_processes", "checkpoint_every", "keep_checkpoints", "log_every",
    "sheet_every", "sheet_subjects", "tensorboard", "wandb", "micro_batch_size",
    "gradient_checkpointing", "ema_device",
}  # fmt: skip


@contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Hold the run's lock; the system frees it even after a kill."""
    run.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: no lock
        yield
        return
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                f"--out: expected a run that nobody writes, got {run}, where another process is "
                "training. Wait for it, or choose another folder."
            ) from error
        yield


def check_config(run: Path, recipe: TrainingRecipe, files: dict[str, str]) -> None:
    """Refuse settings, base or starting adapter other than those the run was started with.

    Args:
        files: "base" and "init" to a mark of what they hold; no entry for none.
    """
    path = run / CONFIG_NAME
    if not path.exists():
        return
    saved = json.loads(path.read_text(encoding="utf-8"))
    _refuse_other(path, saved["recipe"], recipe)
    for name, mark in saved.get("files", {}).items():
        if files.get(name) != mark:
            place = saved["places"].get(name, "another one")
            got = "none" if name not in files else "a file that holds something else"
            raise ValueError(
                f"--{name}: expected what the run began with, {place}, got {got}. Pass --{name} "
                "as at the first start, or use another --out."
            )
    for name in files.keys() - saved.get("files", files).keys():
        raise ValueError(
            f"--{name}: expected none, as the run was begun without, got one. Leave it out, or use "
            "another --out."
        )


def write_config(
    run: Path, recipe: TrainingRecipe, places: dict[str, Any], files: dict[str, str]
) -> None:
    """Save the resolved configuration, once a run has everything it needs.

    Args:
        places: data, base, vision and init as given. files: see :func:`check_config`.
    """
    content = {
        "recipe": recipe.as_dict(),
        "places": {name: str(place) for name, place in places.items() if place},
        "files": files,
    }
    with atomic_path(run / CONFIG_NAME) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + os.linesep, encoding="utf-8")


def _refuse_other(path: Path, saved: dict[str, Any], recipe: TrainingRecipe) -> None:
    free = FREE_SETTINGS | ({"steps"} if recipe.schedule == "constant" else set())
    for name, value in recipe.as_dict().items():
        if name not in free and name in saved and saved[name] != value:
            raise ValueError(
                f"{name}: expected {saved[name]!r} as in {path}, got {value!r}. "
                "Use the run's own settings, or another --out."
            )
