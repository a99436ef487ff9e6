"""The table of front ends: what a report says, by mode."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from devtools import front_end_tests
from devtools.reports import Outcome

REPORT = """<testsuites><testsuite name="pytest" tests="5">
<testcase classname="t" name="test_a[LiteGraph]"/>
<testcase classname="t" name="test_b[LiteGraph-crab]"><failure/></testcase>
<testcase classname="t" name="test_c[Nodes 2.0]"><error/></testcase>
<testcase classname="t" name="test_d[Nodes 2.0-dark]"><skipped/></testcase>
<testcase classname="t" name="test_without_a_page"/>
</testsuite></testsuites>"""


def test_outcomes_by_mode(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT, encoding="utf-8")
    assert front_end_tests.outcomes_by_mode(report) == {
        "LiteGraph": Outcome(passed=1, failed=1),
        "Nodes 2.0": Outcome(failed=1, skipped=1),
    }


def test_version_as_pip_leaves_it(tmp_path: Path) -> None:
    (tmp_path / "comfyui_frontend_package-1.47.12.dist-info").mkdir()
    assert front_end_tests.version_of(tmp_path) == "1.47.12"
    assert doctest.testmod(front_end_tests).failed == 0


def test_a_folder_without_a_front_end(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="expected a folder with a comfyui_frontend_package"):
        front_end_tests.run(tmp_path, ["test_seeing.py"])


def test_the_tests_are_there() -> None:
    folder = front_end_tests.ROOT / "tests" / "browser"
    assert all((folder / name).is_file() for name in front_end_tests.TESTS)
