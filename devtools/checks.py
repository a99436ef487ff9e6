"""Lint, types and all tests, each in a process of its own, added up to one last line."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .browser import BROWSER_VARIABLE
from .console import Progress
from .host import Host
from .machine import free_memory, num_cores
from .reports import NO_TESTS, TESTS_RAN, Outcome, not_collected, read_report, read_tap
from .side_by_side import Ended, Part, SideBySide

HOST_VARIABLE = "SUBJECT_DIFFUSION_COMFYUI"
WEB_TESTS = "tests/web"
CORE_PACKAGE = "subject_diffusion_core"
THREADS_VARIABLE = "OMP_NUM_THREADS"
# Memory that a second process of tests must find free, in GiB.
MEMORY_BESIDE = 5.0
TEST_FILES = ("test_*.py", "*_test.py")


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Tests that share a process.

    Attributes:
        folder: of the tests, or one file of them.
        without: what is left out below it.
        only: the files to run, all below the folder if empty.
        memory: at the peak, with the servers that the tests start, in GiB.
        processes: how many share its files, each with its own.
    """

    title: str
    folder: str
    memory: float
    without: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    processes: int = 1

    def parts(self, root: Path) -> list[Suite]:
        """A suite for each of its processes, as far as there are files."""
        if self.processes == 1:
            return [self] if self.files(root) else []
        names = [path.relative_to(root).as_posix() for path in self.files(root)]
        shares = [names[number :: self.processes] for number in range(self.processes)]
        return [
            replace(
                self,
                title=f"{self.title}, {number} of {self.processes}",
                without=(*self.without, *(name for name in names if name not in share)),
            )
            for number, share in enumerate(shares, start=1)
            if share
        ]

    def files(self, root: Path) -> list[Path]:
        """Its files of tests, all of which must be collected."""
        if self.only:
            return [root / name for name in self.only]
        place = root / self.folder
        if place.is_file():
            return [place]
        left_out = [root / name for name in self.without]
        found = {path for pattern in TEST_FILES for path in place.rglob(pattern)}
        return sorted(
            path for path in found if not any(path.is_relative_to(other) for other in left_out)
        )


# The longest first, so that none is left alone at the end.
FULL_SIZE = "tests/host/test_full_size.py"
SUITES = (
    Suite(
        title="tests inside ComfyUI",
        folder="tests/host",
        without=(FULL_SIZE,),
        memory=5.0,
        processes=2,
    ),
    Suite(
        title="tests without ComfyUI",
        folder="tests",
        without=("tests/host", "tests/browser"),
        memory=4.0,
    ),
    Suite(title="tests in the browser", folder="tests/browser", memory=4.0),
    Suite(title="a model of full size in ComfyUI", folder=FULL_SIZE, memory=12.5),
)


@dataclass(frozen=True)
class Check:
    """A part of the checks, and how its end is read."""

    part: Part
    read: Callable[[Ended], Outcome]


class Checks:
    """Runs the checks in the repository root with the environment's Python.

    Args:
        cores, memory: how many processes there may be at once, and the GiB for all of them; by
            default what this machine has.
    """

    def __init__(
        self,
        *,
        root: Path,
        python: Path,
        host: Host,
        progress: Progress,
        browser: Path | None = None,
        cores: int | None = None,
        memory: float | None = None,
    ) -> None:
        self._root = root
        self._python = python
        self._progress = progress
        self._browser = browser
        self._host = host
        self._cores = num_cores() if cores is None else cores
        self._memory = free_memory() if memory is None else memory

    def run_all(self) -> Outcome:
        """All checks; a failing one does not keep the others from running."""
        with tempfile.TemporaryDirectory(prefix="subject-diffusion-tests-") as temporary:
            outcome = self._run(self._checks(Path(temporary)), Path(temporary))
        return outcome + self._skipped_node_tests()

    def run_in_host(self, only: Sequence[str] = ()) -> Outcome:
        """The tests inside ComfyUI alone, or some files of them."""
        with tempfile.TemporaryDirectory(prefix="subject-diffusion-tests-") as temporary:
            suite = replace(SUITES[0], only=tuple(only))
            check = self._pytest(suite, Path(temporary) / "tests-host.xml")
            return self._run([check], Path(temporary))

    def _run(self, checks: Iterable[Check], temporary: Path) -> Outcome:
        outcome = Outcome()
        by_part = {check.part: check for check in checks}
        side_by_side = SideBySide(
            root=self._root,
            environment=self._environment(),
            progress=self._progress,
            at_once=self.at_once,
            memory=self._memory,
            folder=temporary,
        )
        for ended in side_by_side.run(list(by_part)):
            result = by_part[ended.part].read(ended)
            self._say(ended, result)
            outcome += result
        return outcome

    @property
    def at_once(self) -> int:
        """How many processes: one more than cores, as tests also wait for servers and pages, as far
        as memory goes."""
        return max(1, min(self._cores + 1, len(SUITES), int(self._memory // MEMORY_BESIDE)))

    def _environment(self) -> Mapping[str, str]:
        """What the processes get; each may use its share of the cores."""
        threads = str(max(1, self._cores // self.at_once))
        environment = {
            THREADS_VARIABLE: threads,
            **os.environ,
            HOST_VARIABLE: str(self._host.folder),
            "PYTHONUNBUFFERED": "1",
        }
        if self._browser is not None:
            environment[BROWSER_VARIABLE] = str(self._browser)
        return environment

    def _checks(self, temporary: Path) -> Iterator[Check]:
        yield self._tool("lint", "ruff", "check", ".")
        yield self._tool("format", "ruff", "format", "--check", ".")
        if (self._root / CORE_PACKAGE).is_dir():
            yield self._tool("types", "devtools.type_check")
        parts = [part for suite in SUITES for part in suite.parts(self._root)]
        for number, part in enumerate(parts):
            yield self._pytest(part, temporary / f"{number}.xml")
        node, files = shutil.which("node"), self._node_files()
        if node is not None and files:
            yield node_tests(node, files)

    def _tool(self, title: str, *arguments: str) -> Check:
        """A tool that passes or fails as a whole."""

        def read(ended: Ended) -> Outcome:
            return Outcome(failed=1) if ended.status else Outcome(passed=1)

        command = (str(self._python), "-m", *arguments)
        return Check(Part(title=title, command=command, memory=1.0), read)

    def _pytest(self, suite: Suite, report: Path) -> Check:
        """Tests in a process of their own; `-v` takes back the `-q` of the settings, so that the
        output says which file is running."""
        command = (
            *(str(self._python), "-m", "pytest", "-v", "-p", "no:cacheprovider"),
            *(f"--rootdir={self._root}", f"--junitxml={report}"),
            *(suite.only or (suite.folder,)),
            *(f"--ignore={name}" for name in suite.without),
        )

        def read(ended: Ended) -> Outcome:
            outcome = read_report(report)
            if ended.status in (*TESTS_RAN, NO_TESTS):
                missing = not_collected(report, suite.files(self._root), self._root)
                for folder, names in missing.items():
                    self._progress.say(f"FAILED: {folder}: no test was collected from {names}")
                outcome += Outcome(failed=len(missing))
            if ended.status != 0 and outcome.failed == 0:
                self._progress.say(f"FAILED: {suite.title} ended with status {ended.status}")
                outcome += Outcome(failed=1)
            return outcome

        return Check(Part(title=suite.title, command=command, memory=suite.memory), read)

    def _say(self, ended: Ended, result: Outcome) -> None:
        """A line about a part that has ended; its whole output if something failed in it."""
        line = f"{ended.part.title}: {result} ({ended.seconds:.0f} s)"
        if result.failed:
            self._progress.say(f"FAILED: {line}\n{ended.output.rstrip()}")
        else:
            self._progress.say(f"Passed: {line}")

    def _node_files(self) -> list[str]:
        return sorted(str(path) for path in (self._root / WEB_TESTS).glob("*.test.mjs"))

    def _skipped_node_tests(self) -> Outcome:
        """The files that would need a Node.js, where there is none."""
        files = self._node_files()
        if not files or shutil.which("node") is not None:
            return Outcome()
        self._progress.say(f"Skipped: {len(files)} files in {WEB_TESTS}, which need Node.js")
        return Outcome(skipped=len(files))


def node_tests(node: str, files: list[str]) -> Check:
    """Tests of the editor's modules."""

    def read(ended: Ended) -> Outcome:
        outcome = read_tap(ended.output)
        return outcome + Outcome(failed=1 if ended.status and not outcome.failed else 0)

    command = (node, "--test", "--test-reporter=tap", *files)
    return Check(Part(title=f"tests of the layout editor ({WEB_TESTS})", command=command), read)
