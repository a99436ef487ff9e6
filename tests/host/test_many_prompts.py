"""A few prompts of `python -m benchmarks.many_prompts`."""

from __future__ import annotations

from benchmarks.many_prompts import METHODS, Load
from devtools.console import Progress
from devtools.server import ComfyServer

CANCELS = 4


def test_a_few_of_many_prompts(server: ComfyServer) -> None:
    """One of every method, and some that are cancelled: pictures stay the same bit for bit."""
    load = Load(server, seed=3, progress=Progress())
    load.run(prompts=len(METHODS), cancels=CANCELS)
    assert load.faults == []
    assert load.counts.pop("pictures") == len(METHODS)
    assert sum(load.counts.values()) == CANCELS, load.report()
