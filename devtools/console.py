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


def short(value: object, limit: int = 200) -> str:
    """How a message repeats what somebody wrote: cut to a readable length.

    >>> short("a dog"), short("x" * 1000, limit=5)
    ("'a dog'", "'xxxx...")
    """
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}..."


def cut(text: str, limit: int = 500) -> str:
    """A text from elsewhere, cut to a readable length."""
    return text if len(text) <= limit else f"{text[:limit]}..."


def last_lines(text: str, count: int) -> str:
    """The last `count` non-empty lines of `text`, indented for printing below a message."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-count:])
