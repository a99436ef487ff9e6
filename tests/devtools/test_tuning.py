"""What `dev.py tune` takes and the graph that it makes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from devtools.commands import build_parser
from devtools.console import DevError
from devtools.tuning import tuning_graph
from devtools.tuning_options import job_of

MakePng = Callable[..., Path]


def options(*arguments: str) -> argparse.Namespace:
    always = ["tune", "--label", "dog", "--out", "dog.safetensors"]
    return build_parser().parse_args([*always, *arguments])


def test_several_pictures_with_masks(make_png: MakePng) -> None:
    """Chained subjects; what is not said is the node's default, but the size the small model's."""
    first, second, mask = make_png("a.png"), make_png("b.png"), make_png("mask.png")
    arguments = ["--image", str(first), "--image", str(second)]
    arguments += ["--mask", str(mask), "--mask", str(mask), "--steps", "7"]
    graph = tuning_graph(job_of(options(*arguments)), lambda path: path.name)
    assert graph["loader"]["class_type"] == "SubjectDiffusionTinyLoader"
    assert graph["subject_2"]["inputs"]["previous"] == ["subject_1", 0]
    assert graph["subject_2"]["inputs"]["mask"] == ["mask_2", 0]
    assert graph["mask_1"]["inputs"] == {"image": "mask.png", "channel": "red"}
    inputs = graph["tune"]["inputs"]
    assert (inputs["subjects"], inputs["steps"]) == (["subject_2", 0], 7)
    assert (inputs["picture_size"], inputs["learning_rate"]) == (128, 0.005)


def test_a_checkpoint_of_ones_own(make_png: MakePng, tmp_path: Path) -> None:
    file = tmp_path / "sd15.safetensors"
    file.write_bytes(b"")
    arguments = ("--image", str(make_png("a.png")), "--checkpoint", str(file))
    graph = tuning_graph(job_of(options(*arguments)), lambda path: path.name)
    assert graph["loader"]["inputs"] == {"ckpt_name": "sd15.safetensors"}
    assert graph["tune"]["inputs"]["picture_size"] == 512


def test_mistakes_get_a_sentence(make_png: MakePng) -> None:
    image = str(make_png("a.png"))
    with pytest.raises(DevError, match=r"expected a file, got none\.png"):
        job_of(options("--image", "none.png"))
    with pytest.raises(DevError, match="as many --mask or none, got 2 and 1"):
        job_of(options("--image", image, "--image", image, "--mask", image))
    with pytest.raises(DevError, match="--out: expected a name that ends in"):
        job_of(options("--image", image, "--out", "dog.pt"))
