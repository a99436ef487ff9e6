"""The graphs that run at full geometry: a checkpoint's loader, and a switch of one input."""

from __future__ import annotations

import pytest

from benchmarks.full_size.__main__ import EXAMPLES, FILES, short_graph


@pytest.mark.parametrize("base", EXAMPLES)
def test_on_and_off_differ_in_one_input(base: str) -> None:
    on, off = (short_graph(base, is_on, 256) for is_on in (True, False))
    kinds = {node["class_type"] for node in on.values()}
    assert "CheckpointLoaderSimple" in kinds and "SubjectDiffusionTinyLoader" not in kinds
    names = [node["inputs"]["ckpt_name"] for node in on.values() if "ckpt_name" in node["inputs"]]
    assert names == [FILES[base]["checkpoints"]]
    changed = [
        (name, key)
        for name, node in on.items()
        for key, value in node["inputs"].items()
        if value != off[name]["inputs"][key] and name != "save"
    ]
    assert [key for _, key in changed] == [EXAMPLES[base].switch]
    ((name, key),) = changed
    assert off[name]["inputs"][key] == 0
    values = [value for node in on.values() for value in node["inputs"].values()]
    linked = {value[0] for value in values if is_link(value)}
    assert linked <= set(on)


def is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
