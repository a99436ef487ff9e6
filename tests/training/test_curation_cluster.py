"""A small twin of `python -m benchmarks.cluster_kill`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cluster_kill import compare


def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    found = compare(tmp_path, 160)
    assert found["workers"] == 2 and found["killed"]
    assert found["same shards, byte by byte"] and found["same report"]
    assert isinstance(found["kept"], int) and found["kept"] > 50
