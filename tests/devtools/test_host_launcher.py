"""The launcher ends what it runs when its standard input closes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devtools import host_launcher

LOSES_AN_INTERRUPT = """
import time
print("running", flush=True)
for wait in range(2):
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
print("cleared up", flush=True)
"""
LOSES_ALL = LOSES_AN_INTERRUPT.replace("range(2)", "range(9)")


def launched(program: Path) -> tuple[int, list[str]]:
    """Exit status and lines of a program whose input is closed once it runs."""
    command = [sys.executable, "-u", host_launcher.__file__, str(program)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        lines = [process.stdout.readline()]
        process.stdin.close()
        lines += process.stdout.readlines()
        return process.wait(60), [line.strip() for line in lines]


@pytest.mark.skipif(sys.platform == "win32", reason="there os.kill ends the process at once")
def test_an_interrupt_may_be_lost(tmp_path: Path) -> None:
    program = tmp_path / "main.py"
    program.write_text(LOSES_AN_INTERRUPT)
    assert launched(program) == (0, ["running", "interrupted", "interrupted", "cleared up"])


@pytest.mark.skipif(sys.platform == "win32", reason="there os.kill ends the process at once")
def test_what_ignores_interrupts_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "main.py"
    program.write_text(LOSES_ALL)
    assert launched(program) == (1, ["running", "interrupted", "interrupted"])
