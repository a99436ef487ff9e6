"""Which part of a queued graph made something: a fingerprint of a node and what it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from comfy_execution.utils import get_executing_context

from .prompt_server import prompt_server

# A graph in API format: by node id its `class_type` and its `inputs`.
Graph = Mapping[str, Mapping[str, Any]]


def fingerprint_of_running_node() -> str | None:
    """Of the node that runs now; None where the graph is not known, as in a script, or where the
    node was made while it runs."""
    context, server = get_executing_context(), prompt_server()
    queue = getattr(server, "prompt_queue", None)
    if context is None or queue is None:
        return None
    for item in list(queue.currently_running.values()):
        if item[1] == context.prompt_id:
            return fingerprints(item[2]).get(context.node_id)
    return None


def fingerprints_before(graph: Graph | None, node_id: str | None, name: str) -> set[str]:
    """Of all nodes on which an input of a node depends; empty where the graph is not known."""
    if graph is None or node_id is None or node_id not in graph:
        return set()
    found = fingerprints(graph)
    waiting, seen = list(_links({name: graph[node_id]["inputs"].get(name)})), set()
    while waiting:
        one = waiting.pop()
        if one in graph and one not in seen:
            seen.add(one)
            waiting += _links(graph[one]["inputs"])
    return {found[one] for one in seen}


def fingerprints(graph: Graph) -> dict[str, str]:
    """By node id: equal for nodes of the same kind with the same inputs, from equal nodes."""
    found: dict[str, str] = {}
    waiting = list(graph)
    begun: set[str] = set()
    while waiting:
        node_id = waiting[-1]
        missing = [one for one in _links(graph[node_id]["inputs"]) if one in graph]
        missing = [one for one in missing if one not in found and one not in begun]
        if missing:  # what it depends on comes first; no graph that ComfyUI runs has a circle
            begun.add(node_id)
            waiting += missing
            continue
        waiting.pop()
        if node_id not in found:
            found[node_id] = _fingerprint(graph[node_id], found)
    return found


def _fingerprint(node: Mapping[str, Any], found: Mapping[str, str]) -> str:
    inputs = {
        name: [found.get(str(value[0]), ""), value[1]] if _is_link(value) else value
        for name, value in node["inputs"].items()
    }
    text = json.dumps([node["class_type"], inputs], sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _links(inputs: Mapping[str, Any]) -> Iterator[str]:
    return (str(value[0]) for value in inputs.values() if _is_link(value))


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
