"""Keeps a process warm (all imports done, nothing computed) and forks a training run on demand.

Each line on standard input is JSON with arguments for ``python -m training``; each reply is the
child's process id. A child is a run like any other, in a process and session of its own; ``hold``
names a step after whose checkpoint it waits, so that it cannot end before it is killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def warm_up() -> None:
    """Import what a run imports."""
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(1)
    import_module("training.loop.run")
    from training.bases.loading import load_base
    from training.dataset.samples import words_of
    from training.recipes import recipe_named

    load_base(None, recipe_named("debug_cpu"))  # diffusers and transformers import lazily
    words_of("a dog")


def hold_after(step: int) -> None:
    """Stop this process once a checkpoint of ``step`` or later is written."""
    from training.loop.run import Run

    save = Run.save

    def save_and_wait(run: Run) -> None:
        save(run)
        if run.step >= step:
            os.kill(os.getpid(), signal.SIGSTOP)

    Run.save = save_and_wait  # type: ignore[method-assign]


def child(arguments: list[str], log: str, hold: int | None) -> None:
    """Run one command; never returns."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from training.__main__ import main

    if hold is not None:
        hold_after(hold)
    status = 1
    try:
        main(arguments)
        status = 0
    except SystemExit as error:
        print(error, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve() -> None:
    """Fork for every line until the input ends; children are waited for by ``wait`` lines."""
    warm_up()
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        process = os.fork()
        if process == 0:
            child(request["arguments"], request["log"], request["hold"])
        print(process, flush=True)


if __name__ == "__main__":
    serve()
