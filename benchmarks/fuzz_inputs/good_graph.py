"""The graph that is made wrong: every node of the pack that takes something in."""

from __future__ import annotations

from devtools.api_client import Graph
from devtools.workflows import node

from .methods_graph import methods_graph

# The nodes that end what hangs together; what one depends on is a graph of its own.
TARGETS = (
    "preview", "save", "show_maps", "show_boxes", "keep_file", "show_view", "show_cut_out",
    "show_strip", "show_dream", "show_tuned", "tuned_file", "show_guided", "show_loaded",
    "show_subjects", "show_replaced", "show_cut_out_by_colours",
)  # fmt: skip
# Files that other targets save.
SAVED_BY = ("keep_file", "tuned_file")
SAVED = "fuzz_00001_.safetensors"
ADAPTER = "tiny_adapter.safetensors"
# Inputs that the graph leaves out: its nodes work without them, or they take the place of others.
LEFT_OUT = (
    ("subject1", "region"),
    ("layout", "boxes"),
    ("encode", "negative_image"),
    ("tuned", "conditioning"),
)


def good_graph(seed: int) -> Graph:
    """Two subjects in a small picture, with every node of the pack."""
    return {**_subjects(), **_sampling(seed), **_beside(), **methods_graph(SAVED)}


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
            "SubjectDiffusionReferenceView", subjects=["layout", 0], adapter=["adapter_file", 0]
        ),
        "adapter_file": node("SubjectDiffusionAdapterLoader", adapter_name=ADAPTER),
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
            start_percent=0.0,
            end_percent=1.0,
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
    loaded = node("SubjectDiffusionLoadSubjects", file_name=SAVED, previous=["subject1", 0])
    view = node(
        "SubjectDiffusionReferenceView", subjects=["subjects_file", 0], adapter=["loader", 4]
    )
    return {
        "subjects_file": loaded,
        "view_of_file": view,
        "show_subjects": node("PreviewImage", images=["view_of_file", 0]),
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


def needed_for(graph: Graph, target: str) -> Graph:
    """The part of the graph that one of its nodes depends on."""
    waiting, needed = [target], set()
    while waiting:
        name = waiting.pop()
        if name in needed or name not in graph:
            continue
        needed.add(name)
        waiting += [value[0] for value in graph[name]["inputs"].values() if is_link(value)]
    return {name: one for name, one in graph.items() if name in needed}


def is_link(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
