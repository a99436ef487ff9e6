"""Ctrl-C, a service's request to end, time that is over: the step in progress is kept."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class RunStopped(Exception):
    """A run was asked to stop; the message says where it goes on."""


class StopRequest:
    """While this is open, the first signal only asks; a second one ends at once."""

    def __init__(self, minutes: float | None = None) -> None:
        self._signalled = False
        self._end = None if minutes is None else time.monotonic() + 60 * minutes
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        """Whether the run is to end after this step."""
        return self._signalled or (self._end is not None and time.monotonic() >= self._end)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self._signalled:
            raise KeyboardInterrupt
        self._signalled = True
        print("\nstopping after this step; once more ends at once", flush=True)
