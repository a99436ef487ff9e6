"""Changes of a graph in API format, by the nodes' ids and inputs alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from devtools.api_client import Graph

Link = list[Any]
# What a graph begins with, and what only repeats a picture that is in the repository.
SOURCES = ("LoadImage", "InvertMask", "EmptyLatentImage")
KEPT_TYPES = ("LATENT", "IMAGE", "MASK", "CONDITIONING", "SIGMAS", "FLOAT", "STRING")


def names_of(graph: Graph, class_type: str) -> list[str]:
    """The names of all nodes of a kind, in the graph's order."""
    return [name for name, node in graph.items() if node["class_type"] == class_type]


def add(graph: Graph, name: str, class_type: str, /, **inputs: Any) -> Link:
    """Add a node; the link to its first output."""
    assert name not in graph, name
    graph[name] = {"class_type": class_type, "inputs": inputs}
    return [name, 0]


def change(graph: Graph, class_type: str, number: int = 0, /, **inputs: Any) -> None:
    """Change inputs of one node of a kind."""
    graph[names_of(graph, class_type)[number]]["inputs"] |= inputs


def redirect(graph: Graph, old: Link, new: Link) -> None:
    """Connect what hangs on the output `old` to the output `new`, but for the new node itself."""
    for name, node in graph.items():
        for key, value in node["inputs"].items():
            if value == old and name != new[0]:
                node["inputs"][key] = list(new)


def remove_unused(graph: Graph, names: Sequence[str]) -> None:
    """Remove nodes, which nothing may hang on."""
    for name in names:
        del graph[name]
    links = [value for node in graph.values() for value in node["inputs"].values()]
    assert not [link for link in links if isinstance(link, list) and link[0] in names]


def keep_outputs(graph: Graph, infos: Mapping[str, Any], folder: str) -> Graph:
    """The graph with a KeepOutput node at every output that holds tensors, numbers or texts.

    Args:
        infos: what the server tells of every node.
        folder: of the kept files; node and output number make the name in it.
    """
    kept = copy.deepcopy(graph)
    for name, node in graph.items():
        if node["class_type"] in SOURCES:
            continue
        for slot, kind in enumerate(infos[node["class_type"]]["output"]):
            if kind in KEPT_TYPES:
                file = f"{folder}/{name}.{slot}"
                add(kept, f"keep {file}", "KeepOutput", value=[name, slot], name=file)
    return kept
