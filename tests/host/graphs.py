"""Graphs in API format for the tests, and a runner that queues them as the server does."""

from __future__ import annotations

import asyncio
import copy
import inspect
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import comfy.cli_args
import execution
import folder_paths
import numpy as np
import server
from PIL import Image

Graph = dict[str, dict[str, Any]]


class GraphRunner:
    """Queues graphs as the server does; returns the saved picture or the error's sentence."""

    def __init__(self) -> None:
        comfy.cli_args.args.front_end_root = str(Path(__file__).parent)
        self._server = server.PromptServer(asyncio.new_event_loop())
        self._executor = make_executor(self._server)

    def run(self, graph: Graph) -> np.ndarray:
        """The picture of the graph, computed anew."""
        (picture,) = self.pictures(graph)
        return picture

    def pictures(self, graph: Graph) -> list[np.ndarray]:
        """All pictures that the graph saves, computed anew."""
        before = set(saved_files())
        self.forget()
        error = self.execute(graph)
        assert error is None, error
        return [read_picture(path) for path in sorted(set(saved_files()) - before)]

    def error(self, graph: Graph) -> str:
        """The sentence with which the graph fails."""
        error = self.execute(graph)
        assert error is not None, "the graph succeeded"
        return error

    def forget(self) -> None:
        """Drop the outputs that ComfyUI keeps for the next prompt."""
        self._executor.reset()

    def execute(self, graph: Graph) -> str | None:
        """Run the graph after the ones before it, as the server does; the error's sentence."""
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


def make_executor(prompt_server: Any) -> Any:
    """ComfyUI's executor; which sizes of its cache it asks for differs between versions."""
    known = inspect.signature(execution.PromptExecutor).parameters
    sizes = {"cache_args": defaultdict(int)} if "cache_args" in known else {}
    return execution.PromptExecutor(prompt_server, **sizes)


def saved_files() -> list[Path]:
    return list(Path(folder_paths.get_output_directory()).glob("graph*.png"))


def read_picture(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def make_pictures(folder: Path) -> None:
    """A cut-out, an opaque picture of another size, and one that is transparent throughout."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (48, 40, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[8:40, 6:30, 3] = 255
    Image.fromarray(pixels, "RGBA").save(folder / "cutout.png")
    Image.fromarray(pixels[:30, :, :3], "RGB").save(folder / "opaque.png")
    pixels[..., 3] = 0
    pixels[0, 0, 3] = 1
    Image.fromarray(pixels, "RGBA").save(folder / "invisible.png")
    Image.fromarray(pixels[:30, :, 0], "L").save(folder / "grey.png")
    Image.fromarray(pixels[:1, :1, :3], "RGB").save(folder / "one_pixel.png")
    (folder / "cut_short.png").write_bytes((folder / "cutout.png").read_bytes()[:200])


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


LOADED_ADAPTER = ["loader", 4]


def apply_node(adapter: list[Any] = LOADED_ADAPTER) -> dict[str, Any]:
    """Apply on the tiny model of the node "loader"."""
    return node(
        "SubjectDiffusionApply",
        model=["loader", 0],
        clip=["loader", 1],
        adapter=adapter,
        strength=1.0,
        start_percent=0.0,
        end_percent=1.0,
    )


def encode_node(subjects: str, prompt: str, adapter: list[Any] = LOADED_ADAPTER) -> dict[str, Any]:
    """Encode with the CLIP of the node "apply"; `subjects` names the node they come from."""
    return node(
        "SubjectDiffusionEncode",
        clip=["apply", 1],
        clip_vision=["loader", 3],
        adapter=adapter,
        subjects=[subjects, 0],
        prompt=prompt,
        negative_prompt="",
    )


def guider_node(text_guidance_scale: float, image_guidance_scale: float) -> dict[str, Any]:
    """The guider of the nodes "apply" and "encode"."""
    return node(
        "SubjectDiffusionGuider",
        model=["apply", 0],
        positive=["encode", 0],
        image_only=["encode", 1],
        negative=["encode", 2],
        text_guidance_scale=text_guidance_scale,
        image_guidance_scale=image_guidance_scale,
    )


def ksampler_node(**settings: Any) -> dict[str, Any]:
    """KSampler of the nodes "apply", "encode" and "latent"; `settings` replace its own."""
    own = {"seed": 3, "steps": 3, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal"}
    return node(
        "KSampler",
        model=["apply", 0],
        positive=["encode", 0],
        negative=["encode", 2],
        latent_image=["latent", 0],
        denoise=1.0,
        **{**own, **settings},
    )


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
        "apply": apply_node(),
        "encode": encode_node("layout", "a dog and a (cat:1.2)"),
        "guider": guider_node(3.0, 1.5),
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


def into_a_photo_graph(sampler_name: str = "dpmpp_2m", denoise: float = 0.9) -> Graph:
    """A crab (assets/subjects/crab.png) into the lawn of assets/photos/park.png.

    What lies outside the mask comes from the photo itself: Image Composite Masked.
    """
    return {**_crab_on_a_lawn(), **_sampling_in_a_photo(sampler_name, denoise)}


def _crab_on_a_lawn() -> Graph:
    """From the subject's picture to the guider."""
    return {
        "image": node("LoadImage", image="crab.png"),
        "mask": node("InvertMask", mask=["image", 1]),
        "subject": node(
            "SubjectDiffusionSubject",
            image=["image", 0],
            label="crab",
            box="0.25,0.4,0.75,0.9",
            strength=1.0,
            mask=["mask", 0],
        ),
        "layout": node(
            "SubjectDiffusionLayout",
            subjects=["subject", 0],
            width=128,
            height=128,
            mode="given",
            place_seed=0,
        ),
        "loader": node("SubjectDiffusionTinyLoader"),
        "apply": apply_node(),
        "encode": encode_node("layout", "a photo of a crab on a green lawn in a park"),
        "guider": guider_node(2.0, 3.0),
    }


def _sampling_in_a_photo(sampler_name: str, denoise: float) -> Graph:
    """From the photo and the boxes to the saved picture."""
    return {
        "photo": node("LoadImage", image="park.png"),
        "box_mask": node(
            "SubjectDiffusionBoxMask",
            subjects=["layout", 0],
            width=128,
            height=128,
            grow=4,
            feather=8,
        ),
        "to_latent": node("VAEEncode", pixels=["photo", 0], vae=["loader", 2]),
        "latent": node("SetLatentNoiseMask", samples=["to_latent", 0], mask=["box_mask", 0]),
        "noise": node("RandomNoise", noise_seed=7),
        "sampler": node("KSamplerSelect", sampler_name=sampler_name),
        "sigmas": node(
            "BasicScheduler", model=["apply", 0], scheduler="normal", steps=20, denoise=denoise
        ),
        "sample": node(
            "SamplerCustomAdvanced",
            noise=["noise", 0],
            guider=["guider", 0],
            sampler=["sampler", 0],
            sigmas=["sigmas", 0],
            latent_image=["latent", 0],
        ),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["loader", 2]),
        "composite": node(
            "ImageCompositeMasked",
            destination=["photo", 0],
            source=["decode", 0],
            x=0,
            y=0,
            resize_source=False,
            mask=["box_mask", 0],
        ),
        "save": node("SaveImage", images=["composite", 0], filename_prefix="graph"),
    }
