"""Progress lines for people, and the one error type that ends a command with one sentence."""

from __future__ import annotations

import sys
import time
from typing import TextIO


class DevError(Exception):
    """A problem the user can act on; its text is printed as one line, without a traceback."""


class Progress:
    """Prints lines that begin with the seconds since the command started, each at once."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self._start

    def say(self, message: str) -> None:
        print(f"[{self.elapsed:7.1f} s] {message}", file=self._stream, flush=True)


def last_lines(text: str, count: int) -> str:
    """The last `count` non-empty lines of `text`, indented for printing below a message."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-count:])
