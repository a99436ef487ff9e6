"""The graph that is made wrong, and every input of the pack's nodes that can be."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from typing import Any

from devtools.api_client import Graph
from devtools.workflows import node

from .values import any_number, any_text

PREFIX = "SubjectDiffusion"
ODD_PICTURES = (
    "grey.png", "animated.gif", "sideways.jpg", "one_pixel.png", "palette.png", "wide.png",
)  # fmt: skip


def good_graph(seed: int) -> Graph:
    """Two subjects in a small picture, with every node of the pack that needs no file of others."""
    return {**_subjects(), **_sampling(seed), **_beside()}


def _subjects() -> Graph:
    return {
        "loader": node("SubjectDiffusionTinyLoader"),
        "image1": node("LoadImage", image="cutout.png"),
        "image2": node("LoadImage", image="opaque.png"),
        "subject1": node(
            "SubjectDiffusionSubject",
            image=["image1", 0],
            label="dog",
            box="0.1,0.2,0.5,0.9",
            strength=1.0,
            mask=["image1", 1],
            start_percent=0.0,
            end_percent=1.0,
            mask_marks="background",
        ),
        "subject2": node(
            "SubjectDiffusionSubject",
            image=["image2", 0],
            label="cat",
            box='{"x": 32, "y": 8, "width": 30, "height": 50}',
            strength=0.7,
            previous=["subject1", 0],
        ),
        "layout": node(
            "SubjectDiffusionLayout",
            subjects=["subject2", 0],
            width=64,
            height=64,
            mode="given",
            place_seed=0,
            layout='{"version": 1, "subjects": [{"strength": 0.9}, null]}',
        ),
        "view": node(
            "SubjectDiffusionReferenceView", subjects=["layout", 0], adapter=["loader", 4]
        ),
    }


def _sampling(seed: int) -> Graph:
    return {
        "apply": node(
            "SubjectDiffusionApply",
            model=["loader", 0],
            clip=["loader", 1],
            adapter=["loader", 4],
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
            block_weights="down=1, up=0.5",
        ),
        "encode": node(
            "SubjectDiffusionEncode",
            clip=["apply", 1],
            clip_vision=["loader", 3],
            adapter=["loader", 4],
            subjects=["layout", 0],
            prompt="a dog and a (cat:1.2)",
            negative_prompt="blurry",
            box_coordinates=True,
        ),
        "record": node(
            "SubjectDiffusionRecordAttention", model=["apply", 0], ranges="0-0.5, 0.5-1"
        ),
        "guider": node(
            "SubjectDiffusionGuider",
            model=["record", 0],
            positive=["encode", 0],
            image_only=["encode", 1],
            negative=["encode", 2],
            text_guidance_scale=3.0,
            image_guidance_scale=1.5,
        ),
        "noise": node("RandomNoise", noise_seed=seed),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node(
            "BasicScheduler", model=["apply", 0], scheduler="normal", steps=2, denoise=1.0
        ),
        "latent": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "sample": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["latent", 0],
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["loader", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="fuzz"),
    }


def _beside() -> Graph:
    """Nodes that a picture does not need; each has an output of its own in `TARGETS`."""
    return {
        "preview": node("PreviewImage", images=["layout", 1]),
        "show_view": node("PreviewImage", images=["view", 0]),
        "maps": node(
            "SubjectDiffusionAttentionMaps",
            attention=["record", 1],
            image=["decode", 0],
            tokens="average",
            threshold=0.5,
            opacity=0.7,
        ),
        "show_maps": node("PreviewImage", images=["maps", 0]),
        "box_mask": node(
            "SubjectDiffusionBoxMask",
            subjects=["layout", 0],
            width=64,
            height=64,
            grow=4,
            feather=8,
        ),
        "box_picture": node("MaskToImage", mask=["box_mask", 0]),
        "show_boxes": node("PreviewImage", images=["box_picture", 0]),
        "keep": node(
            "SubjectDiffusionEncodeSubjects",
            subjects=["layout", 0],
            clip_vision=["loader", 3],
            adapter=["loader", 4],
        ),
        "keep_file": node(
            "SubjectDiffusionSaveSubjects",
            subjects=["keep", 0],
            filename_prefix="subject_diffusion_embeds/fuzz",
        ),
    }


# What to ask for, and what stays of the graph then is all that it depends on.
TARGETS = {
    "subject1": "preview",
    "subject2": "preview",
    "layout": "preview",
    "box_mask": "show_boxes",
    "keep_file": "keep_file",
    "maps": "show_maps",
    "record": "show_maps",
    "view": "show_view",
}


def needed_for(graph: Graph, target: str) -> Graph:
    """The part of the graph that one of its nodes depends on."""
    waiting, needed = [target], set()
    while waiting:
        name = waiting.pop()
        if name in needed or name not in graph:
            continue
        needed.add(name)
        waiting += [value[0] for value in graph[name]["inputs"].values() if _is_link(value)]
    return {name: one for name, one in graph.items() if name in needed}


def _is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


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
    for one in chance.sample(sorted(inputs), min(len(inputs), chance.choice((1, 1, 2)))):
        said.append(f"{name}.{one} = {_change(chance, graph, name, one)}")
    target = TARGETS.get(name, "save") if chance.random() < 0.8 else "save"
    if target == "save" and name in ("maps", "keep_file", "keep", "box_mask", "view"):
        target = TARGETS.get(name, "keep_file")
    return Attempt(what=f"{target}: " + "; ".join(said), graph=needed_for(graph, target))


def _change(chance: random.Random, graph: Graph, name: str, entry: str) -> str:
    """Change an input of a node; in words, what it is now."""
    usual = graph[name]["inputs"][entry]
    if _is_link(usual):
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


def _other_source(chance: random.Random, graph: Graph, usual: list[Any]) -> tuple[Any, str]:
    """Another picture, mask or output in place of a link."""
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
    )  # fmt: skip
    link = chance.choice(links)
    return link, f"{link} instead of {usual}"


def _short(value: Any) -> str:
    text = ascii(value) if not isinstance(value, int) or abs(value) < 10**30 else "10**400"
    return text if len(text) <= 60 else f"{text[:57]}... ({len(text)} characters)"
