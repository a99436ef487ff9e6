"""The browser tests on other front ends than the host's own: rows for docs/compatibility.

    python -m devtools.front_end_tests FOLDER ...

Executed with the environment's Python and COMFYUI_PATH. Into FOLDER, pip has put a version:

    python -m pip install --no-deps --target FOLDER comfyui-frontend-package==1.58.1
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path

from .reports import Outcome

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "comfyui_frontend_package"
MODES = ("LiteGraph", "Nodes 2.0")
TESTS = ("test_seeing.py", "test_layout_editor.py", "test_layout_editor_kept.py")
# What hangs on a front end that does not know it is a failure, and need not be waited for long.
PATIENCE = "120"


def version_of(folder: Path) -> str:
    """By the folder beside the package that pip leaves, else its own name.

    >>> version_of(Path("front_ends/1.58.1"))
    '1.58.1'
    """
    for info in folder.glob(f"{PACKAGE}-*.dist-info"):
        return info.name.removeprefix(f"{PACKAGE}-").removesuffix(".dist-info")
    return folder.name


def outcomes_by_mode(report: Path) -> dict[str, Outcome]:
    """Of a JUnit XML report; a test's mode stands in its name."""
    outcomes = dict.fromkeys(MODES, Outcome())
    for mode, outcome in _cases(report):
        outcomes[mode] += outcome
    return outcomes


def _cases(report: Path) -> Iterator[tuple[str, Outcome]]:
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        name = case.get("name", "")
        found = [mode for mode in MODES if re.search(rf"[\[-]{re.escape(mode)}[\]-]", name)]
        kinds = {child.tag for child in case}
        failed, skipped = bool(kinds & {"failure", "error"}), "skipped" in kinds
        for mode in found:
            yield mode, Outcome(int(not failed and not skipped), int(failed), int(skipped))


def row(version: str, outcomes: dict[str, Outcome]) -> str:
    """A row of the table.

    >>> row("1.58.1", {"LiteGraph": Outcome(passed=9), "Nodes 2.0": Outcome(passed=8, failed=1)})
    '| 1.58.1 | 9 passed, 0 failed | 8 passed, 1 failed |'
    """
    return f"| {' | '.join([version, *(str(outcomes[mode]) for mode in MODES)])} |"


def run(folder: Path, tests: Sequence[str]) -> dict[str, Outcome]:
    """All of one front end, in a process of its own."""
    static = folder / PACKAGE / "static"
    if not (static / "index.html").is_file():
        raise SystemExit(
            f"error: expected a folder with a {PACKAGE}, got {folder}. Put one there: python -m "
            "pip install --no-deps --target FOLDER comfyui-frontend-package==VERSION."
        )
    with tempfile.TemporaryDirectory(prefix="subject-diffusion-front-end-") as temporary:
        report = Path(temporary) / "report.xml"
        files = [f"tests/browser/{name}" for name in tests]
        options = ["--front-end", str(static), f"--junitxml={report}", "-q", "--tb=line"]
        command = [sys.executable, "-m", "pytest", *options, *files]
        environment = {**os.environ, "SUBJECT_DIFFUSION_PATIENCE": PATIENCE}
        subprocess.run(command, cwd=ROOT, env=environment, check=False)
        return outcomes_by_mode(report)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m devtools.front_end_tests")
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", default=TESTS, metavar="test_....py")
    options = parser.parse_args(arguments)
    rows, failed = [], 0
    for folder in options.folders:
        outcomes = run(folder.resolve(), options.only)
        rows.append(row(version_of(folder.resolve()), outcomes))
        failed += sum(outcome.failed for outcome in outcomes.values())
        print(rows[-1], flush=True)
    print(f"\n| front end | {' | '.join(MODES)} |\n|---|---|---|", *rows, sep="\n", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
