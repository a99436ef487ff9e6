"""A small twin of `python -m benchmarks.cluster_kill`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.cluster_kill import compare
from training.curation.cluster import jobs_from, pools_of, text_of
from training.curation.pipeline import stages_of
from training.curation.settings import CurationSettings, with_settings
from training.curation.stages import Job, Result


def test_a_killed_worker_changes_nothing(tmp_path: Path) -> None:
    found = compare(tmp_path, 160)
    assert found["workers"] == 2 and found["killed"]
    assert found["same shards, byte by byte"] and found["same report"]
    assert isinstance(found["kept"], int) and found["kept"] > 50


def names_of(*changes: str) -> list[list[str]]:
    pools = pools_of(stages_of(with_settings(CurationSettings(), changes)))
    return [[stage.name for stage in pool] for pool in pools]


def test_each_network_has_a_pool() -> None:
    assert len(names_of()) == 1, "pictures that bring everything along need no network"
    assert names_of("caption.model=a", "boxes.model=b", "masks.model=c") == [
        ["check", "resolution"],
        ["caption", "nouns"],
        ["boxes", "filters", "numbers"],
        ["masks", "mask filter"],
    ]


def test_jobs_travel_whole() -> None:
    """What a worker gets and gives is what it was here, also of pictures that went no further."""
    known = Result(fingerprint="a", fields={"width": 3}, drops=[{"rule": "iou"}])
    end = Result(fingerprint="b", fields=None, reason="damaged", detail="ü", failed=True)
    jobs = [
        Job(fields={"key": "1", "width": None}, known={"check": known}),
        Job(fields={"key": "2"}, known={}, fresh={"check": end}, end=("check", end), drops=[{}]),
    ]
    assert jobs_from(text_of(jobs)) == jobs
