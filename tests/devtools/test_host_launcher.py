"""The launcher ends what it runs when its standard input closes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from devtools import host_launcher
from devtools.patience import PATIENCE_SECONDS

# The handler is there before the first line is, and nothing is printed through buffers, which an
# interrupt could find half written.
LOSES_AN_INTERRUPT = """
import os, signal, time

lost = 1

def interrupted(*_):
    global lost
    os.write(1, b"interrupted\\n")
    lost -= 1
    if lost < 0:
        os.write(1, b"cleared up\\n")
        raise SystemExit

signal.signal(signal.SIGINT, interrupted)
os.write(1, b"running\\n")
while True:
    time.sleep(60)
"""
LOSES_ALL = LOSES_AN_INTERRUPT.replace("lost = 1", "lost = 9")


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
        return process.wait(PATIENCE_SECONDS), [line.strip() for line in lines]


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
