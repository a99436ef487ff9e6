"""What the check of types reaches: any file, whatever the repository's folder is called."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from devtools.checks import Checks
from devtools.console import Progress
from devtools.host import Host
from devtools.reports import Outcome

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("nodes", "subject_diffusion_core", "devtools", "training", "benchmarks")
CACHE = ".mypy_cache"
# Half typed, and it returns something else than it says.
MISTAKE = '\n\ndef planted(number) -> int:\n    return "text"\n'
# A method that no protocol has, and a function of core's that takes no number.
MISUSE = """

from ..subject_diffusion_core.errors import require_finite_tensor as planted_import
from .host.comfy_types import Model


def planted_use(model: Model) -> None:
    model.no_such_method()
    planted_import(1)
"""


def test_a_mistake_in_any_file_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clone = tmp_path / "a clone-1.0"
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, clone / folder, ignore=ignored)
    for name in ("__init__.py", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    if (ROOT / CACHE).is_dir():  # what mypy knows of libraries; its own files are all different
        shutil.copytree(ROOT / CACHE, clone / CACHE)
    planted = sorted(path for folder in FOLDERS for path in (clone / folder).rglob("*.py"))
    for path in planted:
        path.write_text(path.read_text(encoding="utf-8") + MISTAKE, encoding="utf-8")
    extension = clone / "nodes" / "extension.py"
    extension.write_text(extension.read_text(encoding="utf-8") + MISUSE, encoding="utf-8")

    checks = Checks(root=clone, python=Path(sys.executable), host=Host(clone), progress=Progress())
    # lint, format and types; there are no tests
    assert checks.run_all() == Outcome(failed=3)

    lines = capsys.readouterr().out.splitlines()
    for kind in ("no-untyped-def", "return-value"):
        found = {line.split(":")[0] for line in lines if line.endswith(f"[{kind}]")}
        assert {Path(name) for name in found} == {path.relative_to(clone) for path in planted}
    assert any('no attribute "no_such_method"' in line for line in lines)
    assert any('Argument 1 to "require_finite_tensor"' in line for line in lines)
