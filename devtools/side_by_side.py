"""Commands side by side, as many as cores and memory allow, with a line when one ends."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .console import Progress
from .processes import end_process

POLL_SECONDS = 0.1
HEARTBEAT_SECONDS = 30.0
# Of pytest: the file whose tests run, and the share of tests that have run.
CURRENT_FILE = re.compile(r"^(tests/\S+\.py) ", re.MULTILINE)
SHARE_DONE = re.compile(r"\[ *(\d+%)\]")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One command, its output kept until it has ended.

    Attributes:
        title: what people read.
        command: the program and its arguments.
        memory: what it needs at most, in GiB.
    """

    title: str
    command: tuple[str, ...]
    memory: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A part that has ended: exit status, all output, and how long it took."""

    part: Part
    status: int
    output: str
    seconds: float


class SideBySide:
    """Starts parts in their order as soon as there is room, and yields them as they end.

    A part that has no room lets later ones pass; alone, every part has room.

    Args:
        at_once: how many may run.
        memory: for all that run together, in GiB.
    """

    def __init__(
        self,
        *,
        root: Path,
        environment: Mapping[str, str],
        progress: Progress,
        at_once: int,
        memory: float,
        folder: Path,
    ) -> None:
        self._root = root
        self._environment = environment
        self._progress = progress
        self._at_once = at_once
        self._memory = memory
        self._folder = folder
        self._running: dict[Part, _Running] = {}

    @property
    def running(self) -> list[Part]:
        """The parts that run now."""
        return list(self._running)

    def run(self, parts: Sequence[Part]) -> Iterator[Ended]:
        """All parts; leaving early ends those that run."""
        waiting = list(parts)
        last_shown = time.monotonic()
        try:
            while waiting or self._running:
                for part in list(waiting):
                    if self._has_room(part):
                        waiting.remove(part)
                        self._start(part)
                for ended in self._take_ended():
                    yield ended
                    last_shown = time.monotonic()
                if time.monotonic() - last_shown > HEARTBEAT_SECONDS:
                    self._progress.say(f"  {self._state()}")
                    last_shown = time.monotonic()
                time.sleep(POLL_SECONDS)
        finally:
            for running in self._running.values():
                end_process(running.process)

    def _has_room(self, part: Part) -> bool:
        if not self._running:
            return True
        used = sum(each.memory for each in self._running)
        return len(self._running) < self._at_once and used + part.memory <= self._memory

    def _start(self, part: Part) -> None:
        self._progress.say(f"Running {part.title}")
        log = self._folder / f"{len(list(self._folder.glob('*.log')))}.log"
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                part.command,
                cwd=self._root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._running[part] = _Running(process, log, time.monotonic())

    def _take_ended(self) -> list[Ended]:
        found = [part for part, each in self._running.items() if each.process.poll() is not None]
        ended = []
        for part in found:
            running = self._running.pop(part)
            seconds = time.monotonic() - running.start
            output = running.output()
            ended.append(
                Ended(part=part, status=running.process.returncode, output=output, seconds=seconds)
            )
        return ended

    def _state(self) -> str:
        """What runs, and how far it is."""
        return "; ".join(
            f"{part.title}{progress_of(running.output())}"
            for part, running in self._running.items()
        )


@dataclass(frozen=True)
class _Running:
    process: subprocess.Popen[str]
    log: Path
    start: float

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def progress_of(output: str) -> str:
    """How far pytest is, by what it wrote.

    >>> progress_of("tests/a/test_one.py ....  [ 40%]\\ntests/a/test_two.py ..")
    ': 40%, tests/a/test_two.py'
    >>> progress_of("")
    ''
    """
    shares, files = SHARE_DONE.findall(output), CURRENT_FILE.findall(output)
    said = [*shares[-1:], *files[-1:]]
    return f": {', '.join(said)}" if said else ""
