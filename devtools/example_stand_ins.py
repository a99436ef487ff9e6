"""What stands for an example that lacks a user's files, so that it has a picture all the same: as
the example's own note says."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from .api_client import Graph
from .workflows import node

BASE_LOADER = "CheckpointLoaderSimple"
SUBJECT, LAYOUT = "SubjectDiffusionSubject", "SubjectDiffusionLayout"
SEGMENT, CUT_OUT = "SubjectDiffusionSegment", "SubjectDiffusionCutOut"
# Nodes that are bypassed, and the inputs that pass through as their outputs.
BYPASSED = {"LoraLoader": ("model", "clip"), "ControlNetApplyAdvanced": ("positive", "negative")}


def stand_in(graph: Graph) -> Graph | None:
    """A graph that runs on the pack's files, None if there is no such one.

    Of a graph for another base it is the board of the layout; else LoRA and ControlNet are bypassed
    and *Cut Out* takes the place of *Segment*.
    """
    if any(_of_kind(graph, BASE_LOADER)):
        return board_graph(graph)
    changed = copy.deepcopy(graph)
    for name in _of_kind(graph, SEGMENT):
        inputs = {key: value for key, value in graph[name]["inputs"].items() if key != "segmenter"}
        changed[name] = node(CUT_OUT, **inputs)
    passing = {
        (name, slot): graph[name]["inputs"][key]
        for kind, keys in BYPASSED.items()
        for name in _of_kind(graph, kind)
        for slot, key in enumerate(keys)
    }
    for each in changed.values():
        each["inputs"] = {key: _followed(value, passing) for key, value in each["inputs"].items()}
    return changed if changed != graph else None


def board_graph(graph: Graph) -> Graph:
    """What leads to the preview of the graph's Layout, which is saved; a graph without one gets it,
    of the last subject and of the latent's size."""
    layouts = list(_of_kind(graph, LAYOUT))
    if not layouts:
        graph, layouts = {**graph, "layout": _layout_of(graph)}, ["layout"]
    (layout,) = layouts
    wanted, waiting = {}, [layout]
    while waiting:
        name = waiting.pop()
        wanted[name] = graph[name]
        links = [value for value in graph[name]["inputs"].values() if isinstance(value, list)]
        waiting += [str(source) for source, _ in links]
    return {**wanted, "board": node("SaveImage", images=[layout, 1], filename_prefix="board")}


def _layout_of(graph: Graph) -> dict[str, Any]:
    (latent,) = _of_kind(graph, "EmptyLatentImage")
    *_, subject = _of_kind(graph, SUBJECT)
    size = {key: graph[latent]["inputs"][key] for key in ("width", "height")}
    return node(LAYOUT, subjects=[subject, 0], mode="reference", place_seed=0, layout="", **size)


def _of_kind(graph: Graph, kind: str) -> Iterator[str]:
    return (name for name, each in graph.items() if each["class_type"] == kind)


def _followed(value: Any, passing: dict[tuple[str, int], Any]) -> Any:
    """A link, past the nodes that are bypassed."""
    while isinstance(value, list) and (value[0], value[1]) in passing:
        value = passing[value[0], value[1]]
    return value
