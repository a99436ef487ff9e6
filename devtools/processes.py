"""Child processes: run with their output in a log file, ended by their own id."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from .console import Progress

HEARTBEAT_SECONDS = 20.0


def run_logged(
    command: Sequence[str],
    log: Path,
    progress: Progress,
    is_milestone: Callable[[str], bool],
) -> int:
    """Run `command` to its end, all output in `log`, milestones and a heartbeat on the terminal.

    Returns the exit status. The process is ended if this function is left early.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
    try:
        with log.open("w", encoding="utf-8") as log_file:
            _follow(lines, log_file, progress, is_milestone)
        return process.wait()
    finally:
        end_process(process)


def end_process(process: subprocess.Popen[str], patience: float = 5.0) -> None:
    """End a child by its id: terminate, wait up to `patience` seconds, then kill."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    if process.poll() is None:
        process.kill()
        process.wait()


def _read_lines(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(None)


def _follow(
    lines: queue.Queue[str | None],
    log_file: IO[str],
    progress: Progress,
    is_milestone: Callable[[str], bool],
) -> None:
    last_shown = time.monotonic()
    latest = "starting"
    while True:
        try:
            line = lines.get(timeout=1.0)
        except queue.Empty:
            line = ""
        if line is None:
            return
        if line:
            log_file.write(line)
            log_file.flush()
            # Warnings are in the log; a heartbeat says what is being done.
            latest = latest if line.startswith("WARNING") else line.strip() or latest
        if line and is_milestone(line.strip()):
            progress.say(f"  {_shortened(line.strip())}")
            last_shown = time.monotonic()
        elif time.monotonic() - last_shown > HEARTBEAT_SECONDS:
            progress.say(f"  still working: {_shortened(latest)}")
            last_shown = time.monotonic()


def _shortened(text: str, width: int = 90) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
