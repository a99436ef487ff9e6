"""How people install the pack: what the Manager and the Comfy Registry take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


def project() -> Any:
    if sys.version_info < (3, 11):
        pytest.skip("tomllib came with Python 3.11")
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_registrys_rule_for_names() -> None:
    """No "ComfyUI" in it, and at most 100 lower-case letters, digits, dashes and dots."""
    name = project()["name"]
    assert "comfyui" not in name.lower()
    assert len(name) <= 100 and name == name.lower()


def test_the_readme_names_a_way_that_every_manager_allows() -> None:
    """*Install via Git URL* is denied by default since Manager 4."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "git clone" in readme
    assert "ComfyUI Manager 4 refuses *Install via Git URL*" in readme
