"""What test runs report: how many passed and failed, and which files were collected at all."""

from __future__ import annotations

import re
import xml.etree.ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# pytest's exit statuses: its tests ran (all passed; some failed), it found none.
TESTS_RAN, NO_TESTS = (0, 1), 5


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


def not_collected(report: Path, files: Iterable[Path], root: Path) -> dict[str, str]:
    """Files of tests of which a report names no test, by folder: nothing may hide them."""
    modules = collected_modules(report)
    missing: dict[str, list[str]] = {}
    for path in files:
        name = path.relative_to(root).with_suffix("").as_posix().replace("/", ".")
        if name not in modules:
            missing.setdefault(path.parent.relative_to(root).as_posix(), []).append(path.name)
    return {folder: ", ".join(names) for folder, names in missing.items()}


def collected_modules(report: Path) -> set[str]:
    """Dotted names of the modules that a report names tests of, and all that begins one."""
    if not report.is_file():
        return set()
    modules: set[str] = set()
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        # a module that could not be collected, or is skipped as a whole, stands in `name`
        parts = (case.get("classname") or case.get("name") or "").split(".")
        modules |= {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return modules
