"""Whole graphs through ComfyUI's executor: good ones, bad ones, good ones after bad ones."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import factories
import folder_paths
import numpy as np
import pytest
import torch
from graphs import Graph, GraphRunner, changed, good_graph, make_pictures, node
from host_models import Host, make_adapter_for

from subject_diffusion_core import checkpoint


@pytest.fixture(scope="module")
def runner(
    host: Host, comfy_nodes: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GraphRunner]:
    folder = tmp_path_factory.mktemp("weights")
    factories.save_tiny_files(folder)
    original = host.tiny_loader.WEIGHTS
    host.tiny_loader.WEIGHTS = folder
    make_pictures(Path(folder_paths.get_input_directory()))
    yield GraphRunner()
    host.tiny_loader.WEIGHTS = original


def test_the_subjects_reach_the_picture(runner: GraphRunner) -> None:
    picture = runner.run(good_graph())
    assert picture.shape == (128, 128, 3)
    assert not np.array_equal(runner.run(changed("subject1", box="0.5,0.2,0.9,0.9")), picture)
    assert not np.array_equal(runner.run(changed("subject2", strength=0.0)), picture)
    assert not np.array_equal(runner.run(changed("apply", strength=0.5)), picture)
    assert np.array_equal(runner.run(good_graph()), picture)


def test_plain_ksampler(runner: GraphRunner) -> None:
    graph = good_graph()
    for name in ("guider", "noise", "sampler", "sigmas"):
        del graph[name]
    graph["sample"] = node(
        "KSampler",
        model=["apply", 0],
        positive=["encode", 0],
        negative=["encode", 2],
        latent_image=["latent", 0],
        seed=3,
        steps=3,
        cfg=3.0,
        sampler_name="euler",
        scheduler="normal",
        denoise=1.0,
    )
    assert runner.run(graph).shape == (128, 128, 3)


def test_layout_preview(runner: GraphRunner) -> None:
    graph = good_graph()
    graph["save"]["inputs"]["images"] = ["layout", 1]
    preview = runner.run(graph)
    assert preview.shape == (512, 512, 3)
    assert len(np.unique(preview.reshape(-1, 3), axis=0)) > 100


BAD_INPUTS = {
    "empty label": (
        changed("subject2", label="  "),
        r"Subject 2 has no label: expected one or a few words",
    ),
    "box outside": (
        changed("subject1", box="0.1,0.2,1.5,0.9"),
        r"Subject 1's box: expected numbers inside 0\.\.1, got 0\.1, 0\.2, 1\.5, 0\.9\.",
    ),
    "box inverted": (
        changed("subject1", box="0.5,0.2,0.1,0.9"),
        r"Subject 1's box: expected x1 < x2 and y1 < y2, got 0\.5, 0\.2, 0\.1, 0\.9\.",
    ),
    "box empty": (
        changed("subject1", box="[0.5, 0.2, 0.5, 0.9]"),
        r"Subject 1's box: expected x1 < x2",
    ),
    "box of words": (
        changed("subject1", box="on the left"),
        r"Subject 1's box: expected four numbers in 0\.\.1",
    ),
    "box in broken JSON": (
        changed("subject1", box='{"x": 1,'),
        r"Subject 1's box: .* JSON that does not parse",
    ),
    "box in pixels outside": (
        changed("subject2", box='{"x": 100, "y": 16, "width": 60, "height": 100}'),
        r"Subject 2's box: expected a box inside the 128x128 picture",
    ),
    "box in pixels without a size": (
        changed("encode", subjects=["subject2", 0]),
        r"Subject 2's box is in pixels of a picture of unknown size\. Put a .* Layout",
    ),
    "no box": (
        changed("subject1", box=""),
        r"Subject 1 has no box: expected the place where 'dog' shall stand\.",
    ),
    "mask of another size": (
        changed("subject2", mask=["mask1", 0]),
        r"Subject 2's mask: expected the size of its picture, 40x30, got 40x48\.",
    ),
    "empty mask": (
        {
            **changed("subject1", image=["blank", 0], mask=["blank_mask", 0]),
            "blank": node("LoadImage", image="invisible.png"),
            "blank_mask": node("InvertMask", mask=["blank", 1]),
        },
        r"Subject 1's mask: expected 1 where the subject is, got a mask that is empty\.",
    ),
    "guider without apply": (
        changed("guider", model=["loader", 0]),
        r"expected the MODEL output of Subject-Diffusion Apply, got a MODEL without an adapter\.",
    ),
    "encode without apply": (
        changed("encode", clip=["loader", 1]),
        r"expected the CLIP output of Subject-Diffusion Apply, got a CLIP without an adapter\.",
    ),
    "apply twice": (
        {
            **changed("guider", model=["apply2", 0]),
            "apply2": node(
                "SubjectDiffusionApply",
                model=["apply", 0],
                clip=["loader", 1],
                adapter=["loader", 4],
                strength=1.0,
                start_percent=0.0,
                end_percent=1.0,
            ),
        },
        r"model: expected a MODEL without a Subject-Diffusion adapter",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_one_clear_sentence(runner: GraphRunner, case: str) -> None:
    graph, sentence = BAD_INPUTS[case]
    with pytest.raises(AssertionError, match=sentence):
        runner.run(graph)


def test_missing_label(runner: GraphRunner) -> None:
    graph = good_graph()
    del graph["subject1"]["inputs"]["label"]
    assert "Required input is missing" in runner.error(graph)


def adapter_graph(name: str) -> Graph:
    graph = changed("apply", adapter=["adapter", 0])
    graph["encode"]["inputs"]["adapter"] = ["adapter", 0]
    graph["adapter"] = node("SubjectDiffusionAdapterLoader", adapter_name=name)
    return graph


def write_adapter(kind: str, path: Path, host: Host) -> None:
    base = host.make_base("sd2" if kind == "other base" else "tiny")
    adapter = make_adapter_for(base, base_family="sd2" if kind == "other base" else "tiny")
    if kind == "pickled":
        path.write_bytes(pickle.dumps({"a": 1}))
        return
    if kind == "torch file":
        torch.save({"a": torch.zeros(1)}, path)
        return
    checkpoint.save(path, adapter)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    if kind == "NaN":
        content = bytearray(path.read_bytes())
        content[-4:] = np.float32("nan").tobytes()
        path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("other base", r"model: expected a sd2 base with input channels 4 .*, got 16\."),
        ("truncated", r"expected an intact \.safetensors file, got a damaged one"),
        ("NaN", r"expected finite numbers, got NaN or infinity"),
        ("pickled", r"expected a \.safetensors file, got a pickled"),
        ("torch file", r"expected a \.safetensors file, got a pickled"),
    ],
)
def test_bad_adapter_files(
    runner: GraphRunner, host: Host, models_folder: Path, kind: str, sentence: str
) -> None:
    write_adapter(kind, models_folder / "bad.safetensors", host)
    with pytest.raises(AssertionError, match=sentence):
        runner.run(adapter_graph("bad.safetensors"))


def test_an_adapter_from_the_models_folder(
    runner: GraphRunner, host: Host, models_folder: Path
) -> None:
    write_adapter("good", models_folder / "good.safetensors", host)
    assert runner.run(adapter_graph("good.safetensors")).shape == (128, 128, 3)
    (models_folder / "good.safetensors").unlink()
    assert "good.safetensors" in runner.error(adapter_graph("good.safetensors"))


def test_bad_prompts_leave_no_trace(runner: GraphRunner) -> None:
    """The picture after every kind of failure is the picture before it, bit for bit."""
    before = runner.run(good_graph())
    for graph, _ in BAD_INPUTS.values():
        runner.error(graph)
    assert np.array_equal(runner.run(good_graph()), before)
