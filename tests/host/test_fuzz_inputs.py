"""A minute of `python -m benchmarks.fuzz_inputs`."""

from __future__ import annotations

from benchmarks.fuzz_inputs.trying import Fuzzer
from devtools.patience import PATIENCE_SECONDS
from devtools.server import LOOPBACK, ComfyServer

TRIES = 75


def test_a_minute_of_wrong_input(server: ComfyServer) -> None:
    """Each gives a picture or one sentence, and the good picture stays what it was."""
    fuzzer = Fuzzer(LOOPBACK, server.port, server.base, server.is_running, seed=20)
    fuzzer.run(seconds=PATIENCE_SECONDS, tries=TRIES)
    assert fuzzer.faults == []
    assert sum(fuzzer.counts.values()) == TRIES
    assert min(fuzzer.counts["one sentence"], fuzzer.counts["runs"]) > 5, fuzzer.report()
