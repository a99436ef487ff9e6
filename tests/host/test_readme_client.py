"""The README's script, run as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from devtools.server import ComfyServer

ROOT = Path(__file__).resolve().parents[2]
FILES = ("tests/golden/one_subject.json", "assets/subjects/owl.png")


def readme_script(url: str) -> str:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    script, count = re.subn(r'^SERVER = ".*"$', f'SERVER = "{url}"', block, flags=re.M)
    assert count == 1
    return script


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """With the standard library alone (-I -S), where the README's files are."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    command = [sys.executable, "-I", "-S", "-c", script]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_the_script_makes_a_picture(server: ComfyServer, tmp_path: Path) -> None:
    done = run(readme_script(server.url), tmp_path)
    assert done.returncode == 0, done.stderr
    (picture,) = tmp_path.glob("*.png")
    assert Image.open(picture).size == (128, 128)


@pytest.mark.parametrize("label", [" "])
def test_the_script_says_what_went_wrong(server: ComfyServer, tmp_path: Path, label: str) -> None:
    done = run(
        readme_script(server.url).replace('["label"] = "owl"', f'["label"] = "{label}"'), tmp_path
    )
    assert done.returncode == 1
    assert "Subject 1 has no label" in done.stderr
    assert list(tmp_path.glob("*.png")) == []
