"""Whole graphs through ComfyUI's own executor: good ones, bad ones, and good ones after bad
ones."""

from __future__ import annotations

import asyncio
import copy
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.cli_args
import execution
import factories
import folder_paths
import numpy as np
import pytest
import server
import torch
from host_models import Host, make_adapter_for
from PIL import Image

from subject_diffusion_core import checkpoint

Graph = dict[str, dict[str, Any]]


class GraphRunner:
    """Queues graphs the way the server does and returns the saved picture or the error's
    sentence."""

    def __init__(self) -> None:
        comfy.cli_args.args.front_end_root = str(Path(__file__).parent)
        self._server = server.PromptServer(asyncio.new_event_loop())
        self._executor = execution.PromptExecutor(self._server, cache_args={"lru": 0, "ram": 0})

    def run(self, graph: Graph) -> np.ndarray:
        """The picture of the graph, computed anew."""
        before = set(saved_files())
        self._executor.reset()
        error = self._execute(graph)
        assert error is None, error
        (path,) = set(saved_files()) - before
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))

    def error(self, graph: Graph) -> str:
        """The sentence with which the graph fails."""
        error = self._execute(graph)
        assert error is not None, "the graph succeeded"
        return error

    def _execute(self, graph: Graph) -> str | None:
        prompt_id = str(uuid.uuid4())
        valid, error, outputs, node_errors = asyncio.run(
            execution.validate_prompt(prompt_id, graph, None)
        )
        if not valid:
            return f"{error['message']} {node_errors}"
        self._executor.execute(graph, prompt_id, {}, outputs)
        for event, data in self._executor.status_messages:
            if event == "execution_error":
                return data["exception_message"]
        return None


def saved_files() -> list[Path]:
    return list(Path(folder_paths.get_output_directory()).glob("graph*.png"))


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


def make_pictures(folder: Path) -> None:
    """A cut-out, an opaque picture of another size, and a picture that is transparent
    throughout."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (48, 40, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[8:40, 6:30, 3] = 255
    Image.fromarray(pixels, "RGBA").save(folder / "cutout.png")
    Image.fromarray(pixels[:30, :, :3], "RGB").save(folder / "opaque.png")
    pixels[..., 3] = 0
    pixels[0, 0, 3] = 1
    Image.fromarray(pixels, "RGBA").save(folder / "invisible.png")


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def good_graph() -> Graph:
    """Two subjects, three branches."""
    return {
        "loader": node("SubjectDiffusionTinyLoader"),
        "image1": node("LoadImage", image="cutout.png"),
        "mask1": node("InvertMask", mask=["image1", 1]),
        "image2": node("LoadImage", image="opaque.png"),
        "subject1": node(
            "SubjectDiffusionSubject",
            image=["image1", 0],
            label="dog",
            box="0.1,0.2,0.5,0.9",
            strength=1.0,
            mask=["mask1", 0],
        ),
        "subject2": node(
            "SubjectDiffusionSubject",
            image=["image2", 0],
            label="cat",
            box='{"x": 64, "y": 16, "width": 60, "height": 100}',
            strength=0.7,
            previous=["subject1", 0],
        ),
        "layout": node("SubjectDiffusionLayout", subjects=["subject2", 0], width=128, height=128),
        "apply": node(
            "SubjectDiffusionApply",
            model=["loader", 0],
            clip=["loader", 1],
            adapter=["loader", 4],
            strength=1.0,
            start_percent=0.0,
            end_percent=1.0,
        ),
        "encode": node(
            "SubjectDiffusionEncode",
            clip=["apply", 1],
            clip_vision=["loader", 3],
            adapter=["loader", 4],
            subjects=["layout", 0],
            prompt="a dog and a (cat:1.2)",
            negative_prompt="",
        ),
        "guider": node(
            "SubjectDiffusionGuider",
            model=["apply", 0],
            positive=["encode", 0],
            image_only=["encode", 1],
            negative=["encode", 2],
            text_guidance_scale=3.0,
            image_guidance_scale=1.5,
        ),
        "noise": node("RandomNoise", noise_seed=3),
        "sampler": node("KSamplerSelect", sampler_name="dpmpp_2m"),
        "sigmas": node(
            "BasicScheduler", model=["apply", 0], scheduler="normal", steps=3, denoise=1.0
        ),
        "latent": node("EmptyLatentImage", width=128, height=128, batch_size=1),
        "sample": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["latent", 0],
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["loader", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="graph"),
    }


def changed(name: str, **inputs: Any) -> Graph:
    graph = copy.deepcopy(good_graph())
    graph[name]["inputs"] |= inputs
    return graph


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
