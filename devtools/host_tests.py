"""The tests inside ComfyUI, on any number of ComfyUI folders, each with a Python of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .checks import Checks
from .console import DevError, Progress
from .host import Host, checked_host
from .reports import Outcome


@dataclass(frozen=True)
class HostRun:
    """A ComfyUI and the Python that has what it and the tests need."""

    host: Host
    python: Path


def parse_run(text: str, default_python: Path) -> HostRun:
    """`FOLDER`, or `FOLDER=PYTHON`."""
    folder, _, python = text.partition("=")
    interpreter = Path(python) if python else default_python
    if not interpreter.is_file():
        raise DevError(
            f"test-host: expected the path of a Python for {folder}, got {str(interpreter)!r}. "
            "Give FOLDER=PYTHON, or make the environment with `python dev.py test`."
        )
    return HostRun(checked_host(Path(folder).expanduser().resolve(), "test-host"), interpreter)


def run_all(
    runs: Sequence[HostRun], *, root: Path, progress: Progress, only: Sequence[str] = ()
) -> Outcome:
    """One host after the other; the rows of a table at the end.

    Args:
        only: files below tests/host; all of them by default.
    """
    total, rows = Outcome(), []
    for run in runs:
        start = time.monotonic()
        progress.say(f"ComfyUI {run.host.version} in {run.host.folder}")
        checks = Checks(root=root, python=run.python, host=run.host, progress=progress)
        outcome = checks.run_in_host(only)
        rows.append(table_row(run.host.version, outcome, time.monotonic() - start))
        total += outcome
    print("\n| ComfyUI | passed | failed | skipped | minutes |\n|---|---|---|---|---|", flush=True)
    print(*rows, sep="\n", flush=True)
    return total


def table_row(version: str, outcome: Outcome, seconds: float) -> str:
    """A row of the table in `docs/compatibility.md`.

    >>> table_row("0.3.75", Outcome(passed=620, skipped=3), 754.0)
    '| 0.3.75 | 620 | 0 | 3 | 12.6 |'
    """
    cells = (version, outcome.passed, outcome.failed, outcome.skipped, f"{seconds / 60:.1f}")
    return f"| {' | '.join(map(str, cells))} |"
