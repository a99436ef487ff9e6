"""Lint, types and all tests, each in a process of its own, added up to one last line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .browser import BROWSER_VARIABLE
from .console import Progress
from .host import Host
from .processes import end_process

HOST_VARIABLE = "SUBJECT_DIFFUSION_COMFYUI"
WEB_TESTS = "tests/web"
CORE_PACKAGE = "subject_diffusion_core"
HOST_TESTS = "tests/host"
BROWSER_TESTS = "tests/browser"
# pytest's exit statuses without a failure: all passed, none collected.
CLEAN_STATUSES = (0, 5)


@dataclass(frozen=True)
class Outcome:
    """How many checks passed and failed."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


class Checks:
    """Runs the checks in the repository root with the environment's Python."""

    def __init__(
        self,
        *,
        root: Path,
        python: Path,
        host: Host,
        progress: Progress,
        browser: Path | None = None,
    ) -> None:
        self._root = root
        self._python = python
        self._progress = progress
        self._environment = {
            **os.environ,
            HOST_VARIABLE: str(host.folder),
            "PYTHONUNBUFFERED": "1",
        }
        if browser is not None:
            self._environment[BROWSER_VARIABLE] = str(browser)

    def run_all(self) -> Outcome:
        """All checks; a failing one does not keep the others from running."""
        outcome = self._tool("lint", ["ruff", "check", "."])
        outcome += self._tool("format", ["ruff", "format", "--check", "."])
        if (self._root / CORE_PACKAGE).is_dir():
            outcome += self._tool("types", ["mypy"])
        apart = {"tests inside ComfyUI": HOST_TESTS, "tests in the browser": BROWSER_TESTS}
        others = [f"--ignore={folder}" for folder in apart.values()]
        outcome += self._pytest("tests without ComfyUI", ["tests", *others])
        for title, folder in apart.items():
            if (self._root / folder).is_dir():
                outcome += self._pytest(title, [folder])
        return outcome + self._node_tests()

    def _node_tests(self) -> Outcome:
        """Tests of the editor's modules, where there is a Node.js to run them."""
        files = sorted(str(path) for path in (self._root / WEB_TESTS).glob("*.test.mjs"))
        node = shutil.which("node")
        if not files:
            return Outcome()
        if node is None:
            self._progress.say(f"Skipped: {len(files)} files in {WEB_TESTS}, which need Node.js")
            return Outcome(skipped=len(files))
        self._progress.say(f"Running tests of the layout editor ({WEB_TESTS})")
        command = [node, "--test", "--test-reporter=tap", *files]
        done = subprocess.run(command, cwd=self._root, capture_output=True, text=True)
        outcome = read_tap(done.stdout)
        if done.returncode != 0:
            self._progress.say(f"FAILED: {WEB_TESTS}\n{done.stdout}{done.stderr}")
            outcome += Outcome(failed=0 if outcome.failed else 1)
        return outcome

    def _tool(self, title: str, arguments: Sequence[str]) -> Outcome:
        """A tool that passes or fails as a whole."""
        if self._run(title, ["-m", *arguments]) == 0:
            return Outcome(passed=1)
        self._progress.say(f"FAILED: {title}")
        return Outcome(failed=1)

    def _pytest(self, title: str, arguments: Sequence[str]) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="subject-diffusion-tests-") as temporary:
            report = Path(temporary) / "report.xml"
            options = ["-p", "no:cacheprovider", f"--junitxml={report}"]
            status = self._run(title, ["-m", "pytest", *options, *arguments])
            outcome = read_report(report)
        if status not in CLEAN_STATUSES and outcome.failed == 0:
            self._progress.say(f"FAILED: {title} ended with status {status}")
            outcome += Outcome(failed=1)
        return outcome

    def _run(self, title: str, arguments: Sequence[str]) -> int:
        self._progress.say(f"Running {title}")
        command = [str(self._python), *arguments]
        process = subprocess.Popen(command, cwd=self._root, env=self._environment, text=True)
        try:
            return process.wait()
        finally:
            end_process(process)


def read_tap(report: str) -> Outcome:
    """The totals at the end of a TAP report of `node --test`."""
    passed, failed, skipped = (
        sum(int(number) for number in re.findall(rf"^# {name} (\d+)$", report, re.MULTILINE))
        for name in ("pass", "fail", "skipped")
    )
    return Outcome(passed=passed, failed=failed, skipped=skipped)


def read_report(report: Path) -> Outcome:
    """Add up a JUnit XML report; a missing one (the run broke off) counts nothing."""
    if not report.is_file():
        return Outcome()
    outcome = Outcome()
    for suite in xml.etree.ElementTree.parse(report).getroot().iter("testsuite"):
        total, failures, errors, skipped = (
            int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")
        )
        failed = failures + errors
        outcome += Outcome(passed=total - failed - skipped, failed=failed, skipped=skipped)
    return outcome
