"""Commands side by side, in real processes: room, order, output, and what is left behind."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from devtools import side_by_side
from devtools.console import Progress
from devtools.machine import free_memory, num_cores
from devtools.side_by_side import Part, SideBySide, progress_of

# Says that it runs, and ends once a file is there.
WAITS = """
import pathlib, sys, time
pathlib.Path(sys.argv[1], sys.argv[2] + ".runs").touch()
while not pathlib.Path(sys.argv[1], sys.argv[3] + ".runs").exists():
    time.sleep(0.01)
print(sys.argv[2], "has met", sys.argv[3])
"""

Make = Callable[..., SideBySide]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(
        at_once: int = 2, memory: float = 8.0, stream: io.StringIO | None = None
    ) -> SideBySide:
        (tmp_path / "logs").mkdir(exist_ok=True)
        return SideBySide(
            root=tmp_path, environment=dict(os.environ), progress=Progress(stream),
            at_once=at_once, memory=memory, folder=tmp_path / "logs",
        )  # fmt: skip

    return make


def python(title: str, script: str, *arguments: str, memory: float = 1.0) -> Part:
    return Part(title=title, command=(sys.executable, "-c", script, *arguments), memory=memory)


def test_two_run_at_the_same_time(make: Make, tmp_path: Path) -> None:
    """Each waits for the other: one after another they would wait for ever."""
    folder = str(tmp_path)
    parts = [python("a", WAITS, folder, "a", "b"), python("b", WAITS, folder, "b", "a")]
    ended = {each.part.title: each for each in make().run(parts)}
    assert [each.status for each in ended.values()] == [0, 0]
    assert {title: each.output.strip() for title, each in ended.items()} == {
        "a": "a has met b",
        "b": "b has met a",
    }


@pytest.mark.parametrize(("at_once", "memory"), [(1, 8.0), (2, 2.5)])
def test_without_room_they_take_turns(make: Make, at_once: int, memory: float) -> None:
    """By the count, and by memory; what needs more than there is runs alone."""
    parts = [python(name, "print(1)", memory=2.0) for name in "ab"]
    parts.append(python("large", "print(1)", memory=99.0))
    runner = make(at_once, memory)
    seen = []
    for ended in runner.run(parts):
        seen.append(ended.part.title)
        assert runner.running == []
    assert seen == ["a", "b", "large"]


def test_a_small_part_passes_one_without_room(make: Make, tmp_path: Path) -> None:
    folder = str(tmp_path)
    first, last = python("a", WAITS, folder, "a", "c"), python("c", WAITS, folder, "c", "a")
    large = python("large", "print(1)", memory=99.0)
    assert [each.part.title for each in make().run([first, large, last])][-1] == "large"


def test_leaving_early_ends_them(make: Make, tmp_path: Path) -> None:
    script = "import os, pathlib, sys, time\npathlib.Path(sys.argv[1]).write_text(str(os.getpid()))"
    endless = python("endless", f"{script}\nwhile True: time.sleep(60)", str(tmp_path / "pid"))
    script = (
        "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)"
    )
    run = make().run([endless, python("quick", script, str(tmp_path / "pid"))])
    assert next(run).part.title == "quick"
    run.close()
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_how_far_it_is(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(side_by_side, "HEARTBEAT_SECONDS", 0.0)
    script = "import time; print('tests/a/test_one.py ..  [ 40%]'); time.sleep(1)"
    list(make(stream=stream).run([python("some tests", script)]))
    assert "some tests" in stream.getvalue()
    output = "tests/a/test_one.py ....  [ 40%]\ntests/a/test_two.py .."
    assert progress_of(output) == ": 40%, tests/a/test_two.py"
    assert progress_of("") == ""


def test_this_machine() -> None:
    assert num_cores() >= 1
    assert 0.0 <= free_memory() < 1e5
