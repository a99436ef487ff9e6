"""What a saved graph relies on besides names: defaults, limits and choices of every input."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

# By node and input, in the order of the inputs: written once, and then only added to.
FROZEN = json.loads(Path(__file__).with_name("frozen_inputs.json").read_text(encoding="utf-8"))
LIMITS = ("optional", "default", "min", "max", "step", "round", "multiline", "options")
FILES = ("adapter_name", "segmenter_name", "file_name")  # whatever is in a folder


def schema_of(comfy_nodes: Any, node_id: str) -> Any:
    return comfy_nodes.NODE_CLASS_MAPPINGS[node_id].GET_SCHEMA()


def described(entry: Any) -> dict[str, Any]:
    """One input: its type, and all that is set of `LIMITS`."""
    found = {name: getattr(entry, name, None) for name in LIMITS}
    for name in ("optional", "multiline"):  # said only where it is
        found[name] = found[name] or None
    if entry.id in FILES:
        found["options"] = "files"
    said = {name: value for name, value in found.items() if value is not None}
    return {"type": entry.get_io_type(), **said}


def test_all_nodes_are_frozen(comfy_nodes: Any) -> None:
    ours = {name for name in comfy_nodes.NODE_CLASS_MAPPINGS if name.startswith("SubjectDiffusion")}
    assert ours == set(FROZEN)
    assert len(ours) == 26


@pytest.mark.parametrize("node_id", FROZEN)
def test_defaults_and_limits_are_frozen(comfy_nodes: Any, node_id: str) -> None:
    """A default that changes changes every graph that leaves its input out."""
    inputs = {entry.id: described(entry) for entry in schema_of(comfy_nodes, node_id).inputs}
    assert inputs == FROZEN[node_id]
    assert list(inputs) == list(FROZEN[node_id])


@pytest.mark.parametrize("node_id", FROZEN)
def test_an_input_that_is_left_out_has_its_default(comfy_nodes: Any, node_id: str) -> None:
    """A graph without an optional input gets what the method itself takes in its place."""
    schema = schema_of(comfy_nodes, node_id)
    node = comfy_nodes.NODE_CLASS_MAPPINGS[node_id]
    taken = inspect.signature(node.execute).parameters
    for entry in schema.inputs:
        has_default = taken[entry.id].default is not inspect.Parameter.empty
        assert has_default == bool(entry.optional), entry.id
        if has_default and getattr(entry, "default", None) is not None:  # a socket has none
            assert taken[entry.id].default == entry.default, entry.id
