"""The list of saved subjects: read again only where a folder changed, and always right."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from host_models import Host

COUNT = 10_000
EXTENSIONS = (".safetensors",)


def age(folder: Path, seconds: int) -> None:
    """Its last change is so long ago."""
    then = folder.stat().st_mtime_ns - seconds * 10**9
    os.utime(folder, ns=(then, then))


def test_many_files_cost_no_more_than_a_look_at_their_folder(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = host.folder_lists
    for number in range(COUNT):
        (tmp_path / f"{number}.safetensors").touch()
    age(tmp_path, 60)
    scans: list[str] = []
    scan = module._scan

    def count(path: str, *more: int) -> Any:
        scans.append(path)
        return scan(path, *more)

    monkeypatch.setattr(module, "_scan", count)
    for _ in range(3):
        assert len(list(module.files_below(str(tmp_path), EXTENSIONS))) == COUNT
    assert len(scans) == 1


def test_what_comes_and_goes_is_seen_at_once(host: Host, tmp_path: Path) -> None:
    def names() -> list[str]:
        return sorted(host.folder_lists.files_below(str(tmp_path), EXTENSIONS))

    assert names() == []
    (tmp_path / "a.safetensors").touch()
    assert names() == ["a.safetensors"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.safetensors").touch()
    (tmp_path / "b" / "d.png").touch()
    (tmp_path / "b" / "round").symlink_to(tmp_path)
    wanted = ["a.safetensors", os.path.join("b", "c.safetensors")]
    assert names() == wanted
    age(tmp_path / "b", 60)
    assert names() == names() == wanted
    (tmp_path / "b" / "c.safetensors").unlink()
    assert names() == ["a.safetensors"]
    assert list(host.folder_lists.files_below(str(tmp_path / "absent"), EXTENSIONS)) == []


def test_a_missing_file_is_not_told_with_ten_thousand_names(host: Host) -> None:
    found = [f"{number}.safetensors" for number in range(COUNT)]
    sentence = host.subject_files.SUBJECT_FILES.missing("x" * 10**6, found)
    assert "and 9990 more; put the file there" in sentence and len(sentence) < 1000
