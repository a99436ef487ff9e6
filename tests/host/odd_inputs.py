"""Input that looks wrong and is not: it must give a picture."""

from __future__ import annotations

import copy
from pathlib import Path

from bad_inputs import with_nodes
from graphs import Graph, changed, good_graph, node
from PIL import Image

LARGE = 8000
LONG_PROMPT = "a dog and a cat, " + ", ".join(f"with {number} small stones" for number in range(60))


def one_picture(name: str) -> Graph:
    """The second subject, which has no mask, from another picture."""
    return changed("image2", image=name)


def sized(width: int, height: int) -> Graph:
    graph = changed("latent", width=width, height=height)
    graph["layout"]["inputs"] |= {"width": width, "height": height}
    graph["subject2"]["inputs"]["box"] = "0.5,0.1,0.95,0.9"
    return graph


def all_off() -> Graph:
    graph = changed("subject1", strength=0.0)
    graph["subject2"]["inputs"]["strength"] = 0.0
    return graph


def two_pictures_of_one_subject() -> Graph:
    return with_nodes(
        changed("subject1", image=["views", 0]),
        views=node("RepeatImageBatch", image=["image1", 0], amount=2),
    )


def many_subjects() -> Graph:
    """Six, more than the small model's slots."""
    graph = good_graph()
    for number in range(3, 7):
        graph[f"subject{number}"] = copy.deepcopy(graph["subject1"])
        graph[f"subject{number}"]["inputs"]["previous"] = [f"subject{number - 1}", 0]
    graph["layout"]["inputs"]["subjects"] = ["subject6", 0]
    return graph


# A picture of the size asked for must come; of the text, a line in the server's log.
ODD_INPUTS: dict[str, tuple[Graph, tuple[int, int], str]] = {
    "label not in the prompt": (
        changed("encode", prompt="a plain background"),
        (128, 128),
        "Subject 1: its label 'dog' is not in the prompt",
    ),
    "empty prompt": (changed("encode", prompt=""), (128, 128), ""),
    "prompt over 77 tokens": (changed("encode", prompt=LONG_PROMPT), (128, 128), ""),
    "placeholder word in the prompt": (
        changed("encode", prompt="sks sks, a dog and a cat, the sks is sks"),
        (128, 128),
        "",
    ),
    "placeholder word as label": (changed("subject1", label="sks"), (128, 128), ""),
    "broken weights in the prompt": (
        changed("encode", prompt="a (dog:1.2 and ((cat"),
        (128, 128),
        "",
    ),
    "all subjects off": (all_off(), (128, 128), ""),
    "adapter off": (changed("apply", start_percent=0.5, end_percent=0.5), (128, 128), ""),
    "picture with alpha": (one_picture("cutout.png"), (128, 128), ""),
    "grey picture": (one_picture("grey.png"), (128, 128), ""),
    "picture of one pixel": (one_picture("one_pixel.png"), (128, 128), ""),
    "huge picture": (one_picture("huge.png"), (128, 128), ""),
    "two views, one mask": (two_pictures_of_one_subject(), (128, 128), ""),
    "six subjects": (many_subjects(), (128, 128), ""),
    "box as a tiny dot": (changed("subject1", box="0.5,0.5,0.501,0.501"), (128, 128), ""),
    "the same box twice": (changed("subject2", box="0.1,0.2,0.5,0.9"), (128, 128), ""),
    "size that is no multiple of 8": (sized(100, 130), (96, 128), ""),
    "odd latent": (sized(104, 72), (104, 72), ""),
    "latent of another size than the layout's": (
        changed("latent", width=192, height=64),
        (192, 64),
        "",
    ),
}


def make_huge_picture(folder: Path) -> None:
    """64 million pixels in a small file."""
    Image.new("RGB", (LARGE, LARGE), "#c04020").save(folder / "huge.png", compress_level=1)
