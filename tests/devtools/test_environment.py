"""Requirement groups, stamps and the extras of pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devtools.console import DevError, Progress
from devtools.environment import (
    TEST_EXTRAS,
    Environment,
    RequirementGroup,
    is_pip_milestone,
    read_extras,
)

ROOT = Path(__file__).resolve().parents[2]


def test_extras_agree_with_a_real_parser() -> None:
    tomllib = pytest.importorskip("tomllib")
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    expected = [requirement for name in TEST_EXTRAS for requirement in extras[name]]
    assert read_extras(text, TEST_EXTRAS) == expected


def test_missing_extras_are_named() -> None:
    with pytest.raises(DevError, match="expected the extras gpu"):
        read_extras('[project.optional-dependencies]\ndev = ["ruff"]\n', ["dev", "gpu"])
    with pytest.raises(DevError, match="optional-dependencies"):
        read_extras("[project]\nname = 'x'\n", ["dev"])


def test_fingerprint_follows_everything_that_decides(tmp_path: Path) -> None:
    requirements, constraints = tmp_path / "requirements.txt", tmp_path / "constraints.txt"
    requirements.write_text("numpy\n")
    constraints.write_text("numpy==2.0.0\n")
    group = RequirementGroup(
        name="x", requirements=("torch",), files=(requirements,), constraints=constraints
    )
    first = group.fingerprint()
    assert group.fingerprint() == first
    constraints.write_text("numpy==2.0.1\n")
    assert group.fingerprint() != first
    assert group.pip_arguments() == [
        *("install", "torch", "-r", str(requirements), "-c", str(constraints))
    ]


def test_an_environment_is_made_once_and_again_if_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    environment = Environment(tmp_path / "venv", tmp_path / "logs", Progress())
    environment.create()
    subprocess.run([str(environment.python), "-m", "pip", "--version"], check=True)
    witness = tmp_path / "venv" / "witness"
    witness.touch()
    environment.create()
    assert witness.exists()
    (tmp_path / "venv" / "created.stamp").unlink()
    environment.create()
    assert not witness.exists()


def test_a_failing_group_is_reported_and_not_stamped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    environment = Environment(tmp_path / "venv", tmp_path / "logs", Progress())
    environment.create()
    bad = RequirementGroup(name="bad", requirements=("./no-such-folder",))
    for _ in range(2):
        with pytest.raises(DevError, match=r"pip failed .* Run the same command again"):
            environment.install(bad)
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n")
    good = RequirementGroup(name="good", files=(empty,))
    assert environment.install(good)
    assert not environment.install(good)


def test_a_given_python_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PYTHON", sys.executable)
    environment = Environment(tmp_path / "venv", tmp_path / "logs", Progress())
    environment.create()
    assert not environment.install(RequirementGroup(name="x", requirements=("./no-such-folder",)))
    assert environment.python == Path(sys.executable)
    assert not (tmp_path / "venv").exists()
    monkeypatch.setenv("COMFYUI_PYTHON", str(tmp_path / "absent"))
    with pytest.raises(DevError, match="COMFYUI_PYTHON: expected the path of a Python"):
        Environment(tmp_path / "venv", tmp_path / "logs", Progress())


@pytest.mark.parametrize(
    ("line", "is_shown"),
    [
        ("Downloading torch-2.12.1.whl (532.2 MB)", True),
        ("Downloading x.whl (1.2 GB)", True),
        ("Downloading idna-3.whl (70 kB)", False),
        ("Downloading small.whl (1.5 MB)", False),
        ("Installing collected packages: a, b", True),
        ("Collecting torch", False),
    ],
)
def test_what_is_shown_of_pip(line: str, is_shown: bool) -> None:
    assert is_pip_milestone(line) is is_shown
