"""A minute of `python -m benchmarks.fuzz_inputs`."""

from __future__ import annotations

import pytest

from benchmarks.fuzz_inputs.trying import Fuzzer
from devtools.api_client import ComfyClient, PromptError
from devtools.patience import PATIENCE_SECONDS
from devtools.server import LOOPBACK, ComfyServer
from devtools.workflows import node

TRIES = 75


def test_a_minute_of_wrong_input(server: ComfyServer) -> None:
    """Each gives a picture or one sentence, and the good picture stays what it was."""
    fuzzer = Fuzzer(LOOPBACK, server.port, server.base, server.is_running, seed=20)
    fuzzer.run(seconds=PATIENCE_SECONDS, tries=TRIES)
    assert fuzzer.faults == []
    assert sum(fuzzer.counts.values()) == TRIES
    assert min(fuzzer.counts["one sentence"], fuzzer.counts["runs"]) > 5, fuzzer.report()


def test_half_a_character_does_not_end_the_queue(client: ComfyClient) -> None:
    """Met by fuzzing: ComfyUI could not write the pack's sentence into its log."""
    loader = node("SubjectDiffusionSegmentLoader", segmenter_name="half \ud800.pth")
    graph = {
        "segmenter": loader,
        "picture": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
        "segment": node(
            "SubjectDiffusionSegment",
            image=["picture", 0],
            segmenter=["segmenter", 0],
            box="0,0,1,1",
            points="",
            largest_component=True,
            fill_holes=True,
        ),
        "show": node("PreviewImage", images=["segment", 1]),
    }
    with pytest.raises(PromptError, match="ud800"):
        client.run(graph)
    assert client.run(
        {
            "picture": graph["picture"],
            "save": node("SaveImage", images=["picture", 0], filename_prefix="next"),
        }
    )
