"""The rows of what went wrong name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.replay_wild.__main__ import SECTIONS, chosen_rows
from benchmarks.replay_wild.rows import Row

ROOT = Path(__file__).resolve().parents[2]
ROWS = [row for section in SECTIONS for row in section]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_its_tests_are_there(row: Row) -> None:
    for test in row.tests:
        file, _, function = test.partition("[")[0].partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not function or re.search(rf"^def {function}\(", text, re.MULTILINE), test


def test_rows_are_chosen_by_name() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert [row.name for row in chosen_rows(["B9", "C1"])] == ["B9", "C1"]
    assert {row.name[0] for row in chosen_rows([])} == {"A", "B", "C", "D", "T"}
    with pytest.raises(SystemExit, match="expected one of"):
        chosen_rows(["Z9"])
