"""Without a browser: the manual's script, run as it stands there, and the examples' pictures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from live_server import running_server
from PIL import Image

from devtools.console import Progress
from devtools.examples import ExamplePictures
from devtools.patience import PATIENCE_SECONDS
from devtools.server import ComfyServer

ROOT = Path(__file__).resolve().parents[2]
FILES = ("tests/golden/one_subject.json", "assets/subjects/owl.png")


def documented_script(url: str) -> str:
    page = (ROOT / "docs" / "command_line.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    script, count = re.subn(r'^SERVER = ".*"$', f'SERVER = "{url}"', block, flags=re.M)
    assert count == 1
    return script


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """With the standard library alone (-I -S), where the page's files are."""
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    command = [sys.executable, "-I", "-S", "-c", script]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )


def picture_from(url: str, folder: Path) -> tuple[tuple[int, int], bytes]:
    """Size and pixels of what the script fetches."""
    done = run(documented_script(url), folder)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.png")
    picture = Image.open(path)
    return picture.size, picture.tobytes()


def test_the_script_makes_a_picture(server: ComfyServer, tmp_path: Path) -> None:
    assert picture_from(server.url, tmp_path)[0] == (128, 128)


def test_the_same_picture_where_memory_is_short(
    server: ComfyServer, comfyui_folder: Path, tmp_path: Path
) -> None:
    """Nothing is kept: each model leaves after its use, each node's result after the prompt.

    (ComfyUI refuses --lowvram and --novram beside --cpu; see test_memory.py for them.)
    """
    options = ("--disable-smart-memory", "--cache-none")
    with running_server(comfyui_folder, tmp_path / "server", options) as frugal:
        first, second = (picture_from(frugal.url, tmp_path / str(run)) for run in (1, 2))
    assert first == second == picture_from(server.url, tmp_path / "plain")


def test_the_same_request_again(server: ComfyServer, tmp_path: Path) -> None:
    """ComfyUI runs nothing, as it still has the results; the script gets its picture even so."""
    assert picture_from(server.url, tmp_path / "1") == picture_from(server.url, tmp_path / "2")


def test_the_script_says_what_went_wrong(server: ComfyServer, tmp_path: Path) -> None:
    script = documented_script(server.url).replace('["label"] = "owl"', '["label"] = " "')
    done = run(script, tmp_path)
    assert done.returncode == 1
    assert "Subject 1 has no label" in done.stderr
    assert list(tmp_path.glob("*.png")) == []


def test_pictures_of_the_examples(server: ComfyServer, tmp_path: Path) -> None:
    """One that runs gets a picture, one for another base its board, one that lacks other files what
    comes without them; one that fails keeps the picture it has."""
    for name in ("assets/subjects", "assets/photos", "tests/golden", "example_workflows"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("subjects/crab", "subjects/guitar", "photos/crab_on_a_lawn"):
        shutil.copy(ROOT / "assets" / f"{name}.png", tmp_path / "assets" / f"{name}.png")
    names = ("one_subject", "lora_and_controlnet", "sam_cut_out", "sd15_ip_adapter",
             "dreamtuner_sd15", "two_subjects")  # fmt: skip
    for name in names:
        graph = json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text("utf-8"))
        for node in graph.values():
            if "steps" in node["inputs"]:
                node["inputs"]["steps"] = 1
            if name == "two_subjects" and "label" in node["inputs"]:
                node["inputs"]["label"] = ""
        text = json.dumps(graph)
        (tmp_path / "tests" / "golden" / f"{name}.json").write_text(text, encoding="utf-8")
    pictures = ExamplePictures(root=tmp_path, python=Path(sys.executable), progress=Progress())
    made = pictures.make_all(server)
    assert [path.name for path in made] == [f"{name}.jpg" for name in sorted(names[:5])]
    assert [Image.open(path).size for path in made] == [(512, 512)] * 5
    assert sorted((tmp_path / "example_workflows").iterdir()) == made
