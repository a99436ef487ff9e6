"""Adding up reports, with real pytest runs; the commands that need no server."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devtools.browser import BROWSER_VARIABLE, find_browser
from devtools.checks import HOST_VARIABLE, SUITES, THREADS_VARIABLE, Checks
from devtools.commands import main
from devtools.console import DevError, Progress
from devtools.host import Host
from devtools.reports import Outcome

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import os, pytest

def test_passes(): pass

@pytest.mark.parametrize("value", [1, 2])
def test_fails(value): assert value == 3

@pytest.mark.skip
def test_skipped(): pass

@pytest.fixture
def broken(): raise RuntimeError

def test_error(broken): pass
"""


def checks_in(root: Path) -> Checks:
    host = Host(root)
    return Checks(root=root, python=Path(sys.executable), host=host, progress=Progress())


def test_a_clean_tree_passes(tmp_path: Path) -> None:
    (tmp_path / "tests" / "host").mkdir(parents=True)
    (tmp_path / "tests" / "test_one.py").write_text("def test_one() -> None:\n    assert True\n")
    seen = f'"{HOST_VARIABLE}" in os.environ'
    (tmp_path / "tests" / "host" / "test_two.py").write_text(
        f"import os\n\n\ndef test_two() -> None:\n    assert {seen}\n"
    )
    assert checks_in(tmp_path).run_all() == Outcome(passed=4)


def test_processes_share_the_files_of_a_suite() -> None:
    """Each file is run once, and none of the processes has many more than another."""
    (inside,) = (suite for suite in SUITES if suite.processes > 1)
    parts = inside.parts(ROOT)
    shares = [[path.name for path in part.files(ROOT)] for part in parts]
    assert len(parts) == inside.processes == len({part.title for part in parts})
    assert sorted(itertools.chain(*shares)) == sorted(path.name for path in inside.files(ROOT))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_browser_tests_are_run_apart_and_told_the_browser(tmp_path: Path) -> None:
    (tmp_path / "tests" / "browser").mkdir(parents=True)
    (tmp_path / "tests" / "browser" / "test_three.py").write_text(
        "import os\n\n\ndef test_three() -> None:\n"
        f'    assert os.environ["{BROWSER_VARIABLE}"] == "a browser"\n'
    )
    python, host = Path(sys.executable), Host(tmp_path)
    checks = Checks(
        root=tmp_path, python=python, host=host, progress=Progress(), browser=Path("a browser")
    )
    assert checks.run_all() == Outcome(passed=3)


def test_the_browser_is_the_one_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(BROWSER_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(DevError, match=f"{BROWSER_VARIABLE}: expected the path of a Chromium"):
        find_browser()
    monkeypatch.setenv(BROWSER_VARIABLE, sys.executable)
    assert find_browser() == Path(sys.executable)
    monkeypatch.delenv(BROWSER_VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_browser() is None


def test_every_kind_of_failure_counts(tmp_path: Path) -> None:
    (tmp_path / "tests" / "host").mkdir(parents=True)
    (tmp_path / "tests" / "test_one.py").write_text(TESTS)
    (tmp_path / "tests" / "host" / "test_two.py").write_text("import no_such_module\n")
    outcome = checks_in(tmp_path).run_all()
    # passed: one test; failed: lint, format, two tests, a broken fixture, a collection
    assert outcome == Outcome(passed=1, failed=6, skipped=1)
    assert str(outcome) == "1 passed, 6 failed, 1 skipped"


def test_a_run_that_breaks_off_counts_as_failed(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(
        "import os\n\n\ndef test_one() -> None:\n    os._exit(3)\n"
    )
    assert checks_in(tmp_path).run_all() == Outcome(passed=2, failed=1)


def write_tests(tmp_path: Path, *folders: str) -> None:
    """A passing test in each folder below tests, in a file that is called after it."""
    for folder in folders:
        place = tmp_path / "tests" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / f"test_{folder.replace('/', '_')}.py").write_text(
            "def test_it() -> None:\n    assert True\n"
        )


def test_some_files_inside_comfyui(tmp_path: Path) -> None:
    write_tests(tmp_path, "host", "host/deep", "core")
    checks = checks_in(tmp_path)
    assert checks.run_in_host() == Outcome(passed=2)
    assert checks.run_in_host(["tests/host/test_host.py"]) == Outcome(passed=1)


def test_all_folders_are_collected(tmp_path: Path) -> None:
    write_tests(tmp_path, "core", "core/deep", "host", "browser")
    assert checks_in(tmp_path).run_all() == Outcome(passed=6)


@pytest.mark.parametrize(
    ("hidden", "conftest"),
    [
        ("core", 'collect_ignore = ["test_core.py"]\n'),
        ("core/deep", 'collect_ignore_glob = ["test_*.py"]\n'),
        ("host", 'import os\n\ncollect_ignore_glob = ["*"] if os.environ else []\n'),
        ("browser", "import no_such_module  # noqa: F401\n"),
        ("core", "import no_such_module  # noqa: F401\n"),
        ("host", "def pytest_collection_modifyitems(items: list) -> None:\n    items.clear()\n"),
    ],
)
def test_a_folder_that_is_not_collected_fails(
    tmp_path: Path, hidden: str, conftest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tests(tmp_path, hidden, "kept")
    (tmp_path / "tests" / hidden / "conftest.py").write_text(conftest)
    outcome = checks_in(tmp_path).run_all()
    assert outcome.failed >= 1
    said = capsys.readouterr().out
    assert "FAILED" in said and f"tests/{hidden}" in said


def test_one_hidden_file_among_others_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tests(tmp_path, "core")
    (tmp_path / "tests" / "core" / "test_empty.py").write_text("def no_test() -> None: ...\n")
    assert checks_in(tmp_path).run_all() == Outcome(passed=3, failed=1)
    assert "tests/core: no test was collected from test_empty.py" in capsys.readouterr().out


def test_a_module_that_is_skipped_was_collected(tmp_path: Path) -> None:
    write_tests(tmp_path, "core")
    (tmp_path / "tests" / "core" / "test_more.py").write_text(
        'import pytest\n\npytest.importorskip("no_such_module")\n'
    )
    assert checks_in(tmp_path).run_all() == Outcome(passed=3, skipped=1)


@pytest.mark.parametrize(
    ("cores", "memory", "at_once", "threads"),
    [(1, 24.0, 2, 1), (2, 20.0, 3, 1), (2, 6.0, 1, 2), (16, 64.0, 4, 4), (4, 0.0, 1, 4)],
)
def test_processes_share_cores_and_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    memory: float,
    at_once: int,
    threads: int,
) -> None:
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_one.py").write_text(
        "import os\n\n\ndef test_threads() -> None:\n"
        f'    assert os.environ["{THREADS_VARIABLE}"] == "{threads}"\n'
    )
    python, host = Path(sys.executable), Host(tmp_path)
    checks = Checks(
        root=tmp_path, python=python, host=host, progress=Progress(), cores=cores, memory=memory
    )
    assert checks.at_once == at_once
    assert checks.run_all() == Outcome(passed=3)


def test_a_mistake_ends_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--prompt", "a cat", "--out", "x", "--subject", "nonsense"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: --subject: expected it to begin with image=")
    assert error.count("\n") == 1
    assert main(["generate", "--prompt", "a cat"]) == 1
    assert "expected --prompt and --out" in capsys.readouterr().err


def test_the_tools_need_the_standard_library_only() -> None:
    """`-S` leaves site-packages out; `-I` the user's folders."""
    command = [sys.executable, "-I", "-S", "-c"]
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import devtools.commands"
    subprocess.run([*command, script], check=True)


WEB_TESTS = """
import { test } from "node:test";
test("passes", () => {});
test("passes, too", () => {});
test("fails", () => { throw new Error("no"); });
test("skipped", { skip: true }, () => {});
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node.js")
def test_the_editors_tests_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "web"
    folder.mkdir(parents=True)
    (folder / "some.test.mjs").write_text(WEB_TESTS)
    # two more have passed: lint and format
    assert checks_in(tmp_path).run_all() == Outcome(passed=4, failed=1, skipped=1)
    (folder / "some.test.mjs").write_text("this does not parse")
    assert checks_in(tmp_path).run_all().failed == 1


def test_without_node_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tests" / "web"
    folder.mkdir(parents=True)
    (folder / "some.test.mjs").write_text(WEB_TESTS)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks_in(tmp_path).run_all() == Outcome(passed=2, skipped=1)
    assert "need Node.js" in "".join(capsys.readouterr())
