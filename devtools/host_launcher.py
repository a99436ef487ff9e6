"""Runs ComfyUI's main.py, and ends it when its standard input closes.

Executed with the host's Python: `python host_launcher.py MAIN_PY OPTIONS...`. The parent holds the
other end of standard input, so the server ends in an orderly way on every system, Windows included,
and never outlives a parent that was killed.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

INTERRUPTS = 2
SECONDS_TO_END = 2.5  # after each interrupt


def end_with_parent() -> None:
    """Wait for the end of standard input, then interrupt the server like Ctrl-C, then insist.

    On Windows `os.kill` ends the process at once; elsewhere ComfyUI clears up first. An interrupt
    that meets asyncio while it sends a file can be lost in its clean-up, hence more than one.
    """
    # Not sys.stdin: a thread that waits inside its buffer would break the interpreter's own end.
    while os.read(0, 1024):
        pass
    for _ in range(INTERRUPTS):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(SECONDS_TO_END)
    os._exit(1)


if __name__ == "__main__":
    main = Path(sys.argv[1])
    # As `python main.py` would have it: ComfyUI's folder first, nothing of this one.
    sys.path[0] = str(main.parent)
    sys.argv = sys.argv[1:]
    # A shell ignores SIGINT for what it runs in the background, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=end_with_parent, daemon=True).start()
    runpy.run_path(str(main), run_name="__main__")
