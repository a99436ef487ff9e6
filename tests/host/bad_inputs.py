"""What users get wrong in a graph: every kind must fail with one clear sentence."""

from __future__ import annotations

from typing import Any

from bad_references import BAD_REFERENCES
from graphs import Graph, changed, good_graph, node

Cases = dict[str, tuple[Graph, str]]
NAN = float("nan")


def with_nodes(graph: Graph, **nodes: dict[str, Any]) -> Graph:
    return {**graph, **nodes}


def without(name: str, inputs: str) -> Graph:
    """The good graph without one input of a node."""
    graph = good_graph()
    del graph[name]["inputs"][inputs]
    return graph


def apply_again() -> dict[str, Any]:
    return node(
        "SubjectDiffusionApply",
        model=["apply", 0],
        clip=["loader", 1],
        adapter=["loader", 4],
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )


def strip_graph(alphas: Any = "0, 0.5, 1", **inputs: Any) -> Graph:
    """The good graph with Interpolate in place of the sampler."""
    graph = changed("sampler", sampler_name="euler")
    graph["plain"] = node("CLIPTextEncode", clip=["loader", 1], text="a dog")
    graph["plain_guider"] = node(
        "CFGGuider",
        model=["loader", 0],
        positive=["plain", 0],
        negative=["plain", 0],
        cfg=2.0,
    )
    sockets = graph["sample"]["inputs"] | {"plain_guider": ["plain_guider", 0]} | inputs
    graph["sample"] = node("SubjectDiffusionInterpolate", **sockets, alphas=alphas)
    return graph


def box(text: Any, sentence: str, subject: str = "subject1") -> tuple[Graph, str]:
    number = subject[-1]
    return changed(subject, box=text), rf"Subject {number}'s box: {sentence}"


FORMATS = r"expected four numbers in 0\.\.1"

BAD_SUBJECTS: Cases = {
    "empty label": (
        changed("subject2", label="  "),
        r"Subject 2 has no label: expected one or a few words",
    ),
    "no label": (without("subject1", "label"), r"Required input is missing.*label"),
    "no picture": (without("subject2", "image"), r"Required input is missing.*image"),
    "endless label": (
        changed("subject1", label="very " * 80 + "old dog"),
        r"label: expected a few words, got 8\d tokens .* shorten the label\.",
    ),
    "no box": (
        changed("subject1", box=""),
        r"Subject 1 has no box: expected the place where 'dog' shall stand\.",
    ),
    "layout that does not parse": (
        changed("layout", layout='{"version": 1,'),
        r"layout: expected JSON such as .* got text that does not parse",
    ),
    "layout of a newer version": (
        changed("layout", layout='{"version": 2, "subjects": []}'),
        r"layout: expected version 1, got 2\.",
    ),
    "layout with a box outside": (
        changed("layout", layout='{"subjects": [null, {"box": [0, 0, 1.5, 1]}]}'),
        r"layout, Subject 2's box: expected numbers inside 0\.\.1",
    ),
    "mask of another size": (
        changed("subject2", mask=["mask1", 0]),
        r"Subject 2's mask: expected the size of its picture, 40x30, got 40x48\.",
    ),
    "fewer masks than views": (
        with_nodes(
            changed("subject1", image=["three", 0], mask=["masks", 0]),
            three=node("RepeatImageBatch", image=["image1", 0], amount=3),
            two=node("RepeatImageBatch", image=["image1", 0], amount=2),
            masks=node("ImageToMask", image=["two", 0], channel="red"),
        ),
        r"Subject 1's mask: expected 1 mask or one per view \(3\), got 2\.",
    ),
    "empty mask": (
        with_nodes(
            changed("subject1", image=["blank", 0], mask=["blank_mask", 0]),
            blank=node("LoadImage", image="invisible.png"),
            blank_mask=node("InvertMask", mask=["blank", 1]),
        ),
        r"Subject 1's mask: expected 1 where the subject is, got a mask that is empty\.",
    ),
    "unknown block": (
        changed("apply", block_weights="left=1"),
        r"block_weights: expected entries such as .*, got 'left=1'\. Name down, mid, up, all, or",
    ),
    "boxes that are not as many as the subjects": (
        {
            **changed("layout", boxes=["boxes", 0]),
            "boxes": node("PrimitiveString", value="0,0,1,1"),
        },
        r"boxes: expected 2, one for each subject in order, got 1\.",
    ),
    "empty region": (
        {
            **changed("subject1", region=["nowhere", 0]),
            "nowhere": node("SolidMask", value=0.0, width=8, height=8),
        },
        r"Subject 1's region: expected 1 where the subject shall stand",
    ),
    "subjects that are not encoded": (
        {
            **changed("encode", subjects=["layout", 0]),
            "keep": node(
                "SubjectDiffusionSaveSubjects", subjects=["layout", 0], filename_prefix="a/b"
            ),
        },
        r"Subject 1 has no embeddings: expected a subject that is encoded already\.",
    ),
    "mask not inverted": (
        with_nodes(
            changed("subject1", mask=["clear", 0]),
            clear=node("SolidMask", value=0.0, width=40, height=48),
        ),
        r"Subject 1's mask: .* put Invert Mask between\.",
    ),
    "picture of NaN": (
        with_nodes(
            changed("subject1", image=["broken", 0]),
            broken=node(
                "ImageBlend",
                image1=["image1", 0],
                image2=["image1", 0],
                blend_factor=NAN,
                blend_mode="normal",
            ),
        ),
        r"Subject 1's image: expected finite numbers, got NaN or infinity\.",
    ),
    "missing picture": (
        changed("image1", image="absent.png"),
        r"Invalid image file: absent\.png",
    ),
    # ComfyUI takes what is missing of a file for transparent
    "damaged picture": (
        changed("image1", image="cut_short.png"),
        r"Subject 1's mask: .* got a mask that is empty\.",
    ),
    "strength too high": (changed("subject1", strength=2.5), r"2\.5 bigger than max of 2\.0"),
    "strength below zero": (changed("subject1", strength=-1), r"-1\.0 smaller than min of 0\.0"),
    "strength NaN": (
        changed("subject1", strength=NAN),
        r"Subject 1's strength: expected a finite number, got nan\. Write a number\.",
    ),
    "strength of words": (changed("subject1", strength="much"), r"Failed to convert .* FLOAT"),
}

BAD_BOXES: Cases = {
    "outside": box(
        "0.1,0.2,1.5,0.9", r"expected numbers inside 0\.\.1, got 0\.1, 0\.2, 1\.5, 0\.9\."
    ),
    "below zero": box("-0.1,0.2,0.5,0.9", r"expected numbers inside 0\.\.1, got -0\.1"),
    "reversed": box(
        "0.5,0.2,0.1,0.9", r"expected x1 < x2 and y1 < y2, got 0\.5, 0\.2, 0\.1, 0\.9\."
    ),
    "upside down": box("0.1,0.9,0.5,0.2", r"expected x1 < x2 and y1 < y2"),
    "empty": box("[0.5, 0.2, 0.5, 0.9]", r"expected x1 < x2"),
    "NaN": box("nan,0.2,0.5,0.9", r"expected finite numbers, got nan, 0\.2, 0\.5, 0\.9\."),
    "infinite": box("[0.1, 0.2, Infinity, 0.9]", r"expected finite numbers"),
    "words": box("on the left", FORMATS),
    "three numbers": box("0.1,0.2,0.5", FORMATS),
    "five numbers": box("0.1,0.2,0.5,0.9,1", FORMATS),
    "one number": box("0.5", FORMATS),
    "a number in JSON": box("[5]", FORMATS),
    "two boxes": box("[[0.1,0.2,0.5,0.9],[0.5,0.2,0.9,0.9]]", FORMATS),
    "broken JSON": box('{"x": 1,', r".* JSON that does not parse"),
    "other keys": box('{"left": 0.1, "top": 0.2}', FORMATS),
    "words in JSON": box('{"x1": "a", "y1": 0, "x2": 1, "y2": 1}', FORMATS),
    "list instead of text": (changed("subject1", box=[0.1, 0.2, 0.5, 0.9]), r"Bad linked input"),
    "pixels outside": box(
        '{"x": 100, "y": 16, "width": 60, "height": 100}',
        r"expected a box inside the 128x128 picture",
        "subject2",
    ),
    "no width": box('{"x": 8, "y": 8, "width": 0, "height": 8}', r"expected x1 < x2"),
    "pixels without a size": (
        changed("encode", subjects=["subject2", 0]),
        r"Subject 2's box is in pixels of a picture of unknown size\. Put a .* Layout",
    ),
    "reference without a mask": (
        with_nodes(
            changed("layout", mode="reference"),
            subject2=changed("subject2", box="")["subject2"],
        ),
        r"Subject 2 has no mask: expected one that shows its place in its own picture",
    ),
}

BAD_NUMBERS: Cases = {
    "strength too high": (changed("apply", strength=3.0), r"3\.0 bigger than max of 2\.0"),
    "strength NaN": (
        changed("apply", strength=NAN),
        r"Subject-Diffusion Apply's strength: expected a finite number, got nan\.",
    ),
    "start over one": (changed("apply", start_percent=1.5), r"1\.5 bigger than max of 1\.0"),
    "end NaN": (changed("apply", end_percent=NAN), r"end_percent: expected a finite number"),
    "guidance too high": (changed("guider", text_guidance_scale=99), r"99\.0 bigger than max"),
    "guidance NaN": (
        changed("guider", image_guidance_scale=NAN),
        r"Guider's image_guidance_scale: expected a finite number, got nan\.",
    ),
    "no picture at all": (changed("latent", batch_size=0), r"0 smaller than min of 1"),
    "no steps": (changed("sigmas", steps=0), r"0 smaller than min of 1"),
    "layout without width": (changed("layout", width=0), r"0 smaller than min of 16"),
    "layout width of words": (changed("layout", width="wide"), r"Failed to convert .* INT"),
    "unknown mode": (
        changed("layout", mode="centre"),
        # newer versions of ComfyUI compare with the list before the node is asked
        r"mode: (expected given, reference, random, got )?'centre'",
    ),
    "place seed below zero": (changed("layout", place_seed=-1), r"-1 smaller than min of 0"),
    "NaN latent": (
        with_nodes(
            changed("sample", latent_image=["broken", 0]),
            broken=node("LatentMultiply", samples=["latent", 0], multiplier=NAN),
        ),
        r"latent_image: expected finite numbers, got NaN or infinity\. Look at the nodes",
    ),
}

BAD_STRIPS: Cases = {
    "alphas of words": (strip_graph("a lot"), r"alphas: expected numbers from 0 to 1 .*'a lot'"),
    "alpha over one": (strip_graph("0, 1.5"), r"alphas: expected numbers from 0 to 1"),
    "alpha below zero": (strip_graph("-0.1"), r"alphas: expected numbers from 0 to 1"),
    "alpha NaN": (strip_graph("nan"), r"alphas: expected numbers from 0 to 1"),
    "no alphas": (strip_graph(" "), r"alphas: expected numbers from 0 to 1"),
    "no noise left": (
        with_nodes(strip_graph(), sigmas=changed("sigmas", denoise=0.0)["sigmas"]),
        r"sigmas: expected at least one step, got 0 numbers\.",
    ),
    "masked latent": (
        with_nodes(
            strip_graph(latent_image=["masked", 0]),
            masked=node("SetLatentNoiseMask", samples=["latent", 0], mask=["mask1", 0]),
        ),
        r"latent_image: expected a latent without a noise mask",
    ),
}

BAD_WIRING: Cases = {
    "guider without apply": (
        changed("guider", model=["loader", 0]),
        r"expected the MODEL output of Subject-Diffusion Apply, got a MODEL without an adapter\.",
    ),
    "encode without apply": (
        changed("encode", clip=["loader", 1]),
        r"expected the CLIP output of Subject-Diffusion Apply, got a CLIP without an adapter\.",
    ),
    "apply twice": (
        with_nodes(changed("guider", model=["apply2", 0]), apply2=apply_again()),
        r"model: expected a MODEL without a Subject-Diffusion adapter",
    ),
    "no subjects": (without("encode", "subjects"), r"Required input is missing.*subjects"),
    "a picture for subjects": (
        changed("layout", subjects=["image1", 0]),
        r"Return type mismatch between linked nodes.*IMAGE.*SUBJECTS",
    ),
    "a MODEL for the adapter": (
        changed("apply", adapter=["loader", 0]),
        r"Return type mismatch between linked nodes.*MODEL.*SUBJECT_DIFFUSION_ADAPTER",
    ),
}

GROUPS: dict[str, Cases] = {
    "subjects": BAD_SUBJECTS,
    "boxes": BAD_BOXES,
    "numbers": BAD_NUMBERS,
    "strips": BAD_STRIPS,
    "wiring": BAD_WIRING,
    "references": BAD_REFERENCES,
}
BAD_INPUTS: Cases = {
    f"{group}: {kind}": case for group, cases in GROUPS.items() for kind, case in cases.items()
}
