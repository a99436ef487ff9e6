"""Sizes for which the loaded model was not made are told before they cost minutes."""

from __future__ import annotations

import asyncio
import io
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_base
import comfy.supported_models
import pytest
import torch
from graphs import ksampler_node, make_pictures, node
from host_models import Host
from test_node_warnings import run_and_listen

from devtools.console import Progress
from devtools.generation import Generator
from devtools.jobs import GenerationSettings, Job, SubjectSpec
from devtools.server import ComfyServer

ROOT = Path(__file__).resolve().parents[2]
ModelType = comfy.model_base.ModelType
KINDS = comfy.supported_models


@pytest.mark.parametrize(
    ("kind", "model_type", "side"),
    [
        (KINDS.SD15, ModelType.EPS, 512),
        (KINDS.SD20, ModelType.EPS, 512),
        (KINDS.SD20, ModelType.V_PREDICTION, 768),
        (KINDS.SD21UnclipL, ModelType.V_PREDICTION, 768),
        (KINDS.SDXL, ModelType.EPS, 1024),
        (KINDS.SSD1B, ModelType.EPS, 1024),
        (KINDS.SDXLRefiner, ModelType.EPS, 1024),
        (KINDS.SVD_img2vid, ModelType.V_PREDICTION_EDM, None),
    ],
)
def test_what_models_were_made_for(host: Host, kind: Any, model_type: Any, side: int) -> None:
    """By the classes with which ComfyUI recognises checkpoints."""
    made = SimpleNamespace(model_config=kind({}), model_type=model_type)
    assert host.picture_size.native_side(made) == side


@pytest.mark.parametrize(
    ("cells", "has_picture", "wanted"),
    [
        ((16, 16), False, None),
        ((24, 24), False, None),  # 1.5 times the side
        ((16, 40), False, r"The picture of 320x128 has 2\.5 times .* Give Layout and the latent"),
        ((64, 64), False, r"The picture of 512x512 has 16\.0 times the pixels of the 128x128 "),
        ((32, 32), True, None),  # upscaled to twice the side
        ((53, 80), True, r"The picture of 640x424 has 16\.6 times .* Scale the picture to about "),
        ((11, 11), False, None),
        ((8, 8), False, r"The picture of 64x64 is small for this model, .* 128x128: little "),
    ],
)
def test_sizes(host: Host, cells: tuple[int, int], has_picture: bool, wanted: str | None) -> None:
    latent = torch.full((1, 4, *cells), float(has_picture))
    said = host.picture_size.size_warning(host.make_base().model.model, latent)
    if wanted is None:
        assert said is None
    else:
        assert_matches(said, wanted)


def assert_matches(text: str | None, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)


def plain_graph(size: int) -> dict[str, Any]:
    """The small model without any adapter."""
    sample = ksampler_node(steps=1, cfg=1.0)
    links = {"model": ["loader", 0], "positive": ["positive", 0], "negative": ["positive", 0]}
    sample["inputs"] |= links
    return {
        "loader": node("SubjectDiffusionTinyLoader"),
        "positive": node("CLIPTextEncode", clip=["loader", 1], text="a dog"),
        "latent": node("EmptyLatentImage", width=size, height=size, batch_size=1),
        "sample": sample,
        "decode": node("VAEDecode", samples=["sample", 0], vae=["loader", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="size"),
    }


def test_the_sampler_says_so_once(server: ComfyServer) -> None:
    make_pictures(server.base / "input")
    assert asyncio.run(run_and_listen(server, plain_graph(128))) == {}
    told = asyncio.run(run_and_listen(server, plain_graph(256)))
    assert set(told) == {"sample"}
    (sentence,) = told["sample"]
    assert sentence.startswith("The picture of 256x256 has 4.0 times the pixels of the 128x128")


def test_two_methods_on_a_model_say_it_once(host: Host, tmp_path: Path) -> None:
    base = host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    host.picture_size.attach_size_check(model)
    kind = host.picture_size.comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    assert len(model.get_wrappers(kind, host.picture_size.KEY)) == 1
    assert base.model.get_wrappers(kind, host.picture_size.KEY) == []


def test_generate_prints_what_the_nodes_warn_of(server: ComfyServer, tmp_path: Path) -> None:
    crab = ROOT / "assets" / "subjects" / "crab.png"
    subject = SubjectSpec(image=crab, label="crab", box_xyxy=(0.2, 0.2, 0.8, 0.8))
    settings = GenerationSettings(steps=1, width=256, height=256)
    job = Job(
        prompt="a photo", subjects=(subject,), seed=1, out=tmp_path / "a.png", settings=settings
    )
    lines = io.StringIO()
    with Generator(server, Progress(lines)) as generator:
        generator.generate(job)
        large = lines.getvalue()
        generator.generate(
            replace(job, prompt="a photo of a crab", settings=GenerationSettings(steps=1))
        )
    good = lines.getvalue()[len(large) :]
    assert large.count("warning: ") == 2
    assert "warning: Subject 1: its label 'crab' is not in the prompt" in large
    assert "warning: The picture of 256x256 has 4.0 times the pixels" in large
    assert large.index("The picture of 256x256") < large.index("step 1 of 1")
    assert "warning: " not in good


def test_box_mask_unlike_the_layout(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    subject = host.subject_node.SubjectDiffusionSubject.execute(
        torch.rand(1, 8, 8, 3), "dog", "0.2,0.2,0.8,0.8", 1.0
    ).args[0]
    laid_out = host.layout_node.SubjectDiffusionLayout.execute(subject, 512, 512).args[0]
    execute = host.box_mask_node.SubjectDiffusionBoxMask.execute
    with caplog.at_level(logging.WARNING):
        execute(laid_out, 512, 512, 0, 0)
        execute(subject, 640, 427, 0, 0)  # no Layout, no size to compare with
        assert caplog.text == ""
        execute(laid_out, 640, 427, 0, 0)
    assert "The mask is 640x427, but the layout was made for 512x512" in caplog.text


def test_tuning_at_another_size(host: Host) -> None:
    """Its default of 512 with the small model, and small pictures, which cost nothing."""
    model = host.make_base().model
    told = host.tune_embedding_node._size_warnings
    (sentence,) = told(model, [torch.ones(1, 4, 64, 48)] * 2 + [torch.ones(1, 4, 8, 8)], 512)
    assert sentence.endswith("Set picture_size to 128 (it is 512).")
