"""Graphs with something wrong in them: every input of the pack's nodes that can be."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from typing import Any

from devtools.api_client import Graph
from devtools.workflows import node

from .good_graph import LEFT_OUT, TARGETS, good_graph, is_link, needed_for
from .values import any_number, any_text

PREFIX = "SubjectDiffusion"
ODD_PICTURES = (
    "grey.png", "animated.gif", "sideways.jpg", "one_pixel.png", "palette.png", "wide.png",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A graph with something wrong in it.

    Attributes:
        what: for people: which inputs of which nodes.
        graph: to be queued.
    """

    what: str
    graph: Graph


def wrong_graph(chance: random.Random) -> Attempt:
    """One or two inputs of one of the pack's nodes are something else: written on the node, or
    linked to it, past the limits that ComfyUI knows."""
    graph = copy.deepcopy(good_graph(seed=chance.randrange(1000)))
    own = [
        name
        for name, one in graph.items()
        if one["class_type"].startswith(PREFIX) and one["inputs"]
    ]
    name = chance.choice(own)
    inputs = graph[name]["inputs"]
    said = []
    entries = sorted({*inputs, *(entry for owner, entry in LEFT_OUT if owner == name)})
    for one in chance.sample(entries, min(len(entries), chance.choice((1, 1, 2)))):
        said.append(f"{name}.{one} = {_change(chance, graph, name, one)}")
    target = chance.choice([one for one in TARGETS if name in needed_for(graph, one)])
    return Attempt(what=f"{target}: " + "; ".join(said), graph=needed_for(graph, target))


def _change(chance: random.Random, graph: Graph, name: str, entry: str) -> str:
    """Change an input of a node; in words, what it is now."""
    usual = graph[name]["inputs"].get(entry)
    if usual is None or is_link(usual):
        graph[name]["inputs"][entry], words = _other_source(chance, graph, usual)
        return words
    is_text = isinstance(usual, str)
    value = any_text(chance, usual) if is_text else any_number(chance)
    if chance.random() < 0.4 and isinstance(value, int | float | str):
        graph["linked"] = _primitive(value)
        graph[name]["inputs"][entry] = ["linked", 0]
        return f"linked {_short(value)}"
    graph[name]["inputs"][entry] = value
    return _short(value)


def _primitive(value: float | str) -> dict[str, Any]:
    if isinstance(value, bool):
        return node("PrimitiveBoolean", value=value)
    kind = {int: "PrimitiveInt", float: "PrimitiveFloat", str: "PrimitiveString"}[type(value)]
    return node(kind, value=value)


def _other_source(chance: random.Random, graph: Graph, usual: Any) -> tuple[Any, str]:
    """Another picture, mask or output in place of a link, or of nothing."""
    size = {"width": chance.choice((1, 16, 40, 64)), "height": chance.choice((1, 16, 48, 64))}
    graph["odd_picture"] = node("LoadImage", image=chance.choice(ODD_PICTURES))
    graph["odd_mask"] = node("SolidMask", value=chance.choice((0.0, 0.5, 1.0)), **size)
    graph["odd_join"] = node("JoinImageWithAlpha", image=["odd_picture", 0], alpha=["odd_mask", 0])
    graph["odd_broken"] = node(
        "ImageBlend",
        image1=["odd_picture", 0],
        image2=["odd_picture", 0],
        blend_factor=float("nan"),
        blend_mode="normal",
    )
    links = (
        ["odd_picture", 0], ["odd_picture", 1], ["odd_mask", 0], ["odd_join", 0],
        ["odd_broken", 0], ["loader", 0], ["loader", 4], ["subject1", 0], ["absent", 0], None,
        ["plain", 0],
    )  # fmt: skip
    link = chance.choice(links)
    return link, f"{link} instead of {usual}"


def _short(value: Any) -> str:
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**30 else "10**400"
    return text if len(text) <= 60 else f"{text[:57]}... ({len(text)} characters)"
