"""The graphs of headless generation: links lead to nodes, masks come from the right place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from devtools.jobs import GenerationSettings, Job, SubjectSpec
from devtools.workflows import generation_graph, png_has_alpha

MakePng = Callable[..., Path]
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def upload(path: Path) -> str:
    return f"uploaded/{path.name}"


@pytest.fixture
def job(make_png: MakePng, tmp_path: Path) -> Job:
    transparent = SubjectSpec(image=make_png("a.png"), label="cat", box_xyxy=(0, 0, 0.5, 1))
    masked = SubjectSpec(
        image=make_png("b.png", colour_type=RGB),
        label="dog",
        box_xyxy=(0.5, 1 / 3, 1, 1),
        mask=make_png("m.png", colour_type=GREY),
    )
    plain = SubjectSpec(
        image=make_png("c.png", colour_type=RGB), label="owl", box_xyxy=(0, 0, 1, 1), strength=0.5
    )
    return Job(
        prompt="a cat, a dog and an owl",
        subjects=(transparent, masked, plain),
        seed=3,
        out=tmp_path / "out.png",
        settings=GenerationSettings(steps=4),
    )


@pytest.mark.parametrize(
    ("colour_type", "has_alpha"),
    [(GREY, False), (RGB, False), (PALETTE, False), (GREY_ALPHA, True), (RGBA, True)],
)
def test_alpha_of_a_png(make_png: MakePng, colour_type: int, has_alpha: bool) -> None:
    assert png_has_alpha(make_png(colour_type=colour_type).read_bytes()) is has_alpha


def test_alpha_elsewhere(make_png: MakePng) -> None:
    transparent = make_png(colour_type=PALETTE, transparent_palette=True).read_bytes()
    assert png_has_alpha(transparent)
    assert not png_has_alpha(transparent[:20])
    assert not png_has_alpha(b"\xff\xd8 a JPEG" * 10)


@pytest.mark.parametrize("adapter", [None, "file.safetensors"])
@pytest.mark.parametrize("is_base_only", [False, True])
def test_every_link_leads_to_a_node(job: Job, adapter: str | None, is_base_only: bool) -> None:
    if is_base_only:
        job = replace(job, settings=replace(job.settings, adapter="none"))
    graph = generation_graph(job, upload, adapter)
    links = [
        value
        for node in graph.values()
        for value in node["inputs"].values()
        if isinstance(value, list)
    ]
    assert links
    assert all(source in graph for source, _ in links)
    assert [node["class_type"] for node in graph.values()].count("SaveImage") == 1


def test_masks_come_from_the_file_or_the_alpha(job: Job) -> None:
    graph = generation_graph(job, upload)
    assert graph["mask_1"] == {"class_type": "InvertMask", "inputs": {"mask": ["image_1", 1]}}
    assert graph["mask_2"]["class_type"] == "LoadImageMask"
    assert graph["mask_2"]["inputs"] == {"image": "uploaded/m.png", "channel": "red"}
    assert "mask" not in graph["subject_3"]["inputs"]


def test_subjects_are_chained_in_order(job: Job) -> None:
    graph = generation_graph(job, upload)
    assert "previous" not in graph["subject_1"]["inputs"]
    assert graph["subject_3"]["inputs"]["previous"] == ["subject_2", 0]
    assert graph["layout"]["inputs"]["subjects"] == ["subject_3", 0]
    assert graph["subject_2"]["inputs"]["box"] == "0.5,0.333333,1,1"
    assert graph["subject_3"]["inputs"]["strength"] == 0.5


def test_the_base_model_alone_uses_stock_nodes_only(job: Job) -> None:
    alone = replace(job, settings=replace(job.settings, adapter="none"))
    classes = {node["class_type"] for node in generation_graph(alone, upload).values()}
    ours = {name for name in classes if name.startswith("SubjectDiffusion")}
    assert ours == {"SubjectDiffusionTinyLoader"}
