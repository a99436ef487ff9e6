"""The graphs that are recorded: the examples, and further ones for what no example does.

Each further graph is an example with 6 steps and one change. `load_subjects` needs the file that
`save_subjects` makes before it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

from devtools.api_client import Graph

from .editing import add, change, names_of, redirect, remove_unused

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
FULL_SIZE = "sd2_base"
STEPS = 6
LONG_PROMPT = "a photo of a crab and a guitar on a plain background, " + ", ".join(
    f"with {number} {thing} far away"
    for number in ("one", "two", "three", "four", "five")
    for thing in ("red balls", "green trees", "blue cars", "old houses")
)


def golden(name: str) -> Graph:
    graph: Graph = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    for node in graph.values():
        node.pop("_meta", None)  # a title computes nothing
    return graph


def example_graphs() -> dict[str, Graph]:
    """Every example but those of full size, as it is."""
    graphs = {path.stem: golden(path.stem) for path in sorted(GOLDEN.glob("*.json"))}
    return {
        name: graph
        for name, graph in graphs.items()
        if all(node["class_type"] != "CheckpointLoaderSimple" for node in graph.values())
    }


def full_size_graph() -> dict[str, Graph]:
    """The example for Stable Diffusion 2 at 64 x 64 pixels, one step."""
    graph = golden(FULL_SIZE)
    change(graph, "SubjectDiffusionLayout", width=64, height=64)
    change(graph, "EmptyLatentImage", width=64, height=64)
    change(graph, "BasicScheduler", steps=1)
    return {FULL_SIZE: graph}


def further_graphs() -> dict[str, Graph]:
    graphs = {}
    for name, (example, edit) in EDITS.items():
        graph = copy.deepcopy(golden(example))
        change(graph, "BasicScheduler", steps=STEPS)
        edit(graph)
        graphs[name] = graph
    return graphs


def scheduled_apply(graph: Graph) -> None:
    change(graph, "SubjectDiffusionApply", start_percent=0.2, end_percent=0.7)


def weaker_apply(graph: Graph) -> None:
    change(graph, "SubjectDiffusionApply", strength=0.6)


def block_weights(graph: Graph) -> None:
    change(graph, "SubjectDiffusionApply", block_weights="down=0.5, mid=0, up=1.2")


def strength_zero(graph: Graph) -> None:
    change(graph, "SubjectDiffusionApply", strength=0.0)


def subject_ranges(graph: Graph) -> None:
    change(graph, "SubjectDiffusionSubject", 0, end_percent=0.6)
    change(graph, "SubjectDiffusionSubject", 1, start_percent=0.3, end_percent=0.8)


def subject_strength(graph: Graph) -> None:
    change(graph, "SubjectDiffusionSubject", 0, strength=0.5)


def region(graph: Graph) -> None:
    """The crab acts where the owl's picture is opaque; its box is drawn around that."""
    add(graph, "owl", "LoadImage", image="owl.png")
    shape = add(graph, "shape", "InvertMask", mask=["owl", 1])
    change(graph, "SubjectDiffusionSubject", 0, region=shape, box="")


def two_views(graph: Graph) -> None:
    """A batch of two pictures without a mask."""
    add(graph, "owl", "LoadImage", image="owl.png")
    subject = names_of(graph, "SubjectDiffusionSubject")[0]
    first = graph[subject]["inputs"]["image"]
    views = add(graph, "views", "ImageBatch", image1=first, image2=["owl", 0])
    change(graph, "SubjectDiffusionSubject", image=views)
    del graph[subject]["inputs"]["mask"]


def layout_text(graph: Graph) -> None:
    """Box, strength and range from the layout editor's JSON."""
    subjects = [
        {"box": [0.05, 0.3, 0.45, 0.8], "strength": 0.8},
        {"start": 0.2, "end": 0.9},
    ]
    change(graph, "SubjectDiffusionLayout", layout=json.dumps({"version": 1, "subjects": subjects}))


def negative_image(graph: Graph) -> None:
    picture = add(graph, "owl", "LoadImage", image="owl.png")
    change(graph, "SubjectDiffusionEncode", negative_image=picture)


def no_box_coordinates(graph: Graph) -> None:
    change(graph, "SubjectDiffusionEncode", box_coordinates=False)


def long_prompt(graph: Graph) -> None:
    change(graph, "SubjectDiffusionEncode", prompt=LONG_PROMPT)


def weighted_words(graph: Graph) -> None:
    """Weights, a plural, and a subject that the prompt does not name."""
    change(
        graph, "SubjectDiffusionEncode", prompt="a (crab:1.3) on a lawn", negative_prompt="a tree"
    )


def conditioning_area(graph: Graph) -> None:
    encode = names_of(graph, "SubjectDiffusionEncode")[0]
    area = {"width": 0.75, "height": 0.5, "x": 0.125, "y": 0.25, "strength": 1.0}
    link = add(graph, "area", "ConditioningSetAreaPercentage", conditioning=[encode, 0], **area)
    redirect(graph, [encode, 0], link)


def plain_ksampler(graph: Graph) -> None:
    """Two branches, an ancestral sampler, a batch of 2."""
    apply, encode, latent, sampler = (
        names_of(graph, kind)[0]
        for kind in (
            "SubjectDiffusionApply", "SubjectDiffusionEncode", "EmptyLatentImage",
            "SamplerCustomAdvanced",
        )
    )  # fmt: skip
    change(graph, "EmptyLatentImage", batch_size=2)
    settings = {"seed": 7, "steps": STEPS, "cfg": 3, "denoise": 1}
    names = {"sampler_name": "euler_ancestral", "scheduler": "karras"}
    links = {"positive": [encode, 0], "negative": [encode, 2], "latent_image": [latent, 0]}
    link = add(graph, "ksampler", "KSampler", model=[apply, 0], **links, **settings, **names)
    redirect(graph, [sampler, 0], link)
    kinds = ("BasicScheduler", "KSamplerSelect", "RandomNoise", "SubjectDiffusionGuider")
    remove_unused(graph, [sampler, *(names_of(graph, kind)[0] for kind in kinds)])


def batch_of_two(graph: Graph) -> None:
    change(graph, "EmptyLatentImage", batch_size=2)


def other_size(graph: Graph) -> None:
    for kind in ("SubjectDiffusionLayout", "EmptyLatentImage"):
        change(graph, kind, width=160, height=96)


def lora_after_apply(graph: Graph) -> None:
    apply = names_of(graph, "SubjectDiffusionApply")[0]
    lora = {"lora_name": "your_lora.safetensors", "strength_model": 0.8, "strength_clip": 0.8}
    add(graph, "lora", "LoraLoader", model=[apply, 0], clip=[apply, 1], **lora)
    for slot in (0, 1):
        redirect(graph, [apply, slot], ["lora", slot])


def adapter_file(graph: Graph) -> None:
    """The bundled adapter, as a file of the user's."""
    loader = names_of(graph, "SubjectDiffusionTinyLoader")[0]
    name = "bundled_adapter.safetensors"
    link = add(graph, "adapter", "SubjectDiffusionAdapterLoader", adapter_name=name)
    redirect(graph, [loader, 4], link)


def save_subjects(graph: Graph) -> None:
    """Encode them once, save them, and use what was saved; also shows what the encoder sees."""
    loader, layout = (
        names_of(graph, kind)[0]
        for kind in ("SubjectDiffusionTinyLoader", "SubjectDiffusionLayout")
    )
    models = {"clip_vision": [loader, 3], "adapter": [loader, 4]}
    encoded = add(
        graph, "encoded", "SubjectDiffusionEncodeSubjects", subjects=[layout, 0], **models
    )
    redirect(graph, [layout, 0], encoded)
    prefix = "subject_diffusion_embeds/recorded"
    add(graph, "saving", "SubjectDiffusionSaveSubjects", subjects=encoded, filename_prefix=prefix)
    views = add(
        graph,
        "views",
        "SubjectDiffusionReferenceView",
        subjects=[layout, 0],
        adapter=[loader, 4],
    )
    add(graph, "show views", "PreviewImage", images=views)


def load_subjects(graph: Graph) -> None:
    """From the file that the graph before made, without the pictures."""
    encode = names_of(graph, "SubjectDiffusionEncode")[0]
    file = "recorded_00001_.safetensors"
    loaded = add(graph, "loaded", "SubjectDiffusionLoadSubjects", file_name=file)
    change(graph, "SubjectDiffusionEncode", subjects=loaded)
    kinds = (
        "LoadImage", "InvertMask", "SubjectDiffusionSubject", "SubjectDiffusionLayout",
        "PreviewImage",
    )  # fmt: skip
    remove_unused(graph, [name for kind in kinds for name in names_of(graph, kind)])
    assert graph[encode]["inputs"]["subjects"] == loaded


def attention_maps(graph: Graph) -> None:
    """Heat maps of two parts of the sampling, the words apart."""
    guider = names_of(graph, "SubjectDiffusionGuider")[0]
    apply, decode = (names_of(graph, kind)[0] for kind in ("SubjectDiffusionApply", "VAEDecode"))
    watched = {"model": [apply, 0], "ranges": "0-0.5, 0.5-1"}
    graph[guider]["inputs"]["model"] = add(
        graph, "record", "SubjectDiffusionRecordAttention", **watched
    )
    settings = {"tokens": "separate", "threshold": 0.5, "opacity": 0.7}
    maps = {"attention": ["record", 1], "image": [decode, 0], **settings}
    drawn = add(graph, "maps", "SubjectDiffusionAttentionMaps", **maps)
    add(graph, "show maps", "PreviewImage", images=drawn)


ONE, TWO = "one_subject", "two_subjects"
EDITS: dict[str, tuple[str, Callable[[Graph], None]]] = {
    "scheduled_apply": (TWO, scheduled_apply),
    "weaker_apply": (TWO, weaker_apply),
    "strength_zero": (ONE, strength_zero),
    "block_weights": (TWO, block_weights),
    "subject_ranges": (TWO, subject_ranges),
    "subject_strength": (TWO, subject_strength),
    "region": (TWO, region),
    "two_views": (ONE, two_views),
    "layout_text": (TWO, layout_text),
    "negative_image": (TWO, negative_image),
    "no_box_coordinates": (TWO, no_box_coordinates),
    "long_prompt": (TWO, long_prompt),
    "weighted_words": (TWO, weighted_words),
    "conditioning_area": (ONE, conditioning_area),
    "plain_ksampler": (TWO, plain_ksampler),
    "batch_of_two": (ONE, batch_of_two),
    "other_size": (TWO, other_size),
    "lora_after_apply": (ONE, lora_after_apply),
    "adapter_file": (ONE, adapter_file),
    "save_subjects": (TWO, save_subjects),
    "load_subjects": (TWO, load_subjects),
    "attention_maps": (TWO, attention_maps),
}
