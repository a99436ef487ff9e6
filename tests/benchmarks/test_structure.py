"""The counts of the pack's structure, on small examples."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks.structure.archive import archived_files
from benchmarks.structure.pack_code import PackCode
from benchmarks.structure.picture_trace import PictureTrace
from benchmarks.structure.sources import (
    circles,
    declarations,
    files_with_word,
    import_graph,
    node_files,
    python_files,
)

PARTS = {
    "__init__.py": "",
    "things.py": """
from dataclasses import dataclass
from typing import NamedTuple

@dataclass
class Thing:
    picture: object
    name: str

class Pair(NamedTuple):
    thing: Thing
    size: object

class Label:
    def __init__(self, name):
        self.name = name

def make(picture):
    return Thing(picture, "thing")
""",
    "work.py": """
from .things import Label, Pair

def pair(thing, other):
    return Pair(thing, other)

def brighten(pairs):
    return [pair.thing.picture * 2 for pair in pairs]
""",
    "blind.py": """
from .things import Label

def measure(size):
    return Label(size + 1)

def into_deaf(picture, hear):
    hear(picture)
""",
    "deaf.py": """
def hear(value):
    return None

def copy(value):
    return [part for part in [value.picture + 1]]  # from which nothing comes

def keep(value):
    def inside(kept):
        return kept
    inside(value)
""",
    "callers.py": """
def into_host(picture, function):
    function([picture])
""",
    "patch.py": """
def use(options):
    return options
""",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package of two classes that carry a picture and one that does not."""
    folder = tmp_path / "example_pack"
    folder.mkdir()
    for name, text in PARTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    for part in ("things", "work", "blind", "deaf", "callers", "patch"):
        importlib.import_module(f"example_pack.{part}")
    yield sys.modules["example_pack"]
    for name in [name for name in sys.modules if name.split(".")[0] == "example_pack"]:
        del sys.modules[name]


def test_a_picture_is_followed_through_objects_and_operations(
    package: ModuleType, tmp_path: Path
) -> None:
    picture, size = torch.rand(2, 3), torch.rand(2)
    trace = PictureTrace(PackCode(tmp_path, ("example_pack",)), tmp_path / "host")
    with trace.watching():
        trace.followed.add(picture)
        thing = package.things.make(picture)
        package.blind.measure(size)
        package.deaf.hear({"it": (thing.picture.sum(),)})
        package.deaf.copy(thing)
        package.deaf.keep(thing)
        pair = package.work.pair(thing, size)
        (bright,) = package.work.brighten([pair])
        trace.expect_end()
        package.blind.measure(size)
        package.patch.use({"call": bright[0]})
        package.blind.measure(picture)  # after the end
    names = [file.removeprefix("example_pack/") for file in trace.files]
    assert names == ["things.py", "deaf.py", "work.py", "patch.py"]
    assert [file.removeprefix("example_pack/") for file in trace.way] == [
        "things.py", "work.py", "patch.py",
    ]  # fmt: skip
    assert trace.carriers == ["Thing", "Pair"]


def test_handing_on_is_returning_or_calling_what_hands_on(
    package: ModuleType, tmp_path: Path
) -> None:
    """Also a call of ComfyUI; a call of what keeps it is none."""
    host = tmp_path / "host"
    trace = PictureTrace(PackCode(tmp_path, ("example_pack",)), host)
    picture = torch.rand(2, 3)
    with trace.watching():
        trace.followed.add(picture)
        package.callers.into_host(picture, host_function(host))
        package.blind.into_deaf(picture, package.deaf.hear)
        trace.expect_end()
        package.patch.use(picture * 2)
    names = {file.removeprefix("example_pack/") for file in trace.way}
    assert names == {"callers.py", "patch.py"}


def host_function(folder: Path) -> Any:
    """A function of a file in ComfyUI's folder."""
    names: dict[str, Any] = {}
    code = compile("def take(value):\n    pass\n", str(folder / "some_host.py"), "exec")
    exec(code, names)
    return names["take"]


def test_what_is_written_into_a_tensor_is_followed() -> None:
    trace = PictureTrace(PackCode(Path(__file__).parent), Path("host"))
    picture, canvas = torch.ones(2), torch.zeros(4)
    with trace.watching():
        trace.followed.add(picture)
        canvas[1:3] = picture
    assert canvas in trace.followed and torch.zeros(1) not in trace.followed


def test_circles() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a", "e"}, "e": {"d"}, "f": {"a"}}
    assert circles(graph) == [["a", "b", "c"], ["d", "e"]]
    assert circles({"a": {"b"}, "b": set()}) == []


def test_sources(tmp_path: Path) -> None:
    texts = {
        "pack/__init__.py": "",
        "pack/a.py": "from .inner import b\nfrom .inner.c import f\nimport os\n",
        "pack/inner/__init__.py": "",
        "pack/inner/b.py": "def g():\n    from .. import a\n",
        "pack/inner/c.py": "class N:\n depth: int = 1\n def define_schema(self, depth): ...\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    files = python_files(tmp_path, ("pack",))
    graph = import_graph(files)
    assert graph["pack.a"] == {"pack.inner.b", "pack.inner.c"}
    assert circles(graph) == [["pack.a", "pack.inner.b"]]
    assert files_with_word(files, "depth") == ["pack.inner.c"]
    assert declarations(files, "depth") == (["pack.inner.c.N"], ["pack.inner.c.define_schema"])
    assert node_files(files) == ["pack.inner.c"]


def test_the_archive_leaves_out_what_the_ignore_file_names(tmp_path: Path) -> None:
    for name in ("kept.py", "dropped.py"):
        (tmp_path / name).write_text("", encoding="utf-8")
    for command in (["git", "init", "-q"], ["git", "add", "."]):
        subprocess.run(command, cwd=tmp_path, check=True)
    assert archived_files(tmp_path) == ["dropped.py", "kept.py"]
    (tmp_path / ".comfyignore").write_text("dropped.py\n", encoding="utf-8")
    assert archived_files(tmp_path) == ["kept.py"]
