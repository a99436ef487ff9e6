"""The tests of rows, in the processes that they belong into, and what came of each row."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from .rows import Row

ROOT = Path(__file__).resolve().parents[2]


def run_tests(rows: Sequence[Row]) -> dict[str, str]:
    """`file::function[case]` -> "passed", "failed" or "skipped", of all tests of the rows."""
    wanted = {test.partition("[")[0] for row in rows for test in row.tests}
    by_process: dict[str, set[str]] = defaultdict(set)
    for test in wanted:
        by_process[test.split("/")[1] if test.count("/") > 1 else ""].add(test)
    found: dict[str, str] = {}
    for tests in by_process.values():
        found |= _run(sorted(tests))
    return found


def _run(tests: Sequence[str]) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=line", f"--junitxml={report}"]
        subprocess.run([*command, *tests], cwd=ROOT, check=False)
        cases = ElementTree.parse(report).iter("testcase")
        return {
            f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}": _state(case)
            for case in cases
        }


def _state(case: ElementTree.Element) -> str:
    kinds = {child.tag for child in case}
    if kinds & {"failure", "error"}:
        return "failed"
    return "skipped" if "skipped" in kinds else "passed"


def state_of(row: Row, found: dict[str, str]) -> str:
    """fixed, sentence, open, or that this ComfyUI has not got what the row is about.

    >>> row = Row(name="B0", what="", tests=("a.py::test_x[one]",))
    >>> state_of(row, {"a.py::test_x[one-2]": "passed", "a.py::test_x[two]": "failed"})
    'fixed'
    >>> state_of(row, {"a.py::test_x[two]": "passed"})
    'open'
    """
    states = [_states_of(test, found) for test in row.tests]
    if not states or not all(states) or any("failed" in each for each in states):
        return "open"
    if not any("passed" in each for each in states):
        return "not on this ComfyUI"
    return row.outcome


def _states_of(test: str, found: dict[str, str]) -> set[str]:
    """Of the cases that a row names."""
    start, _, words = test.partition("[")
    words = words.removesuffix("]")
    return {
        state
        for name, state in found.items()
        if name.split("::" if "::" not in start else "[")[0] == start and words in name
    }
