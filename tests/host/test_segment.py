"""Segment and its loader, with segment-anything's own classes at tiny size."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import factories
import numpy as np
import pytest
import torch
from graphs import GraphRunner, make_pictures, node
from host_models import Host
from safetensors.torch import save_file
from segment_anything import SamPredictor, modeling, sam_model_registry

BOX, POINT = "0.1,0.2,0.7,0.9", "0.5,0.4"
CLEAN = (True, True)
RAW = (False, False)


def make_sam(seed: int = 12) -> modeling.Sam:
    """64 pixels, two blocks (one with windows), random weights."""
    width = 32
    sam = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=64, patch_size=8, embed_dim=24, depth=2, num_heads=3, out_chans=width,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=3,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=width, image_embedding_size=(8, 8), input_image_size=(64, 64),
            mask_in_chans=8,
        ),
        mask_decoder=modeling.MaskDecoder(
            transformer_dim=width,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=width, num_heads=8, mlp_dim=48
            ),
            iou_head_depth=3,
            iou_head_hidden_dim=40,
        ),
    )  # fmt: skip
    factories.randomize(sam, seed)
    matrix = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    matrix.copy_(torch.randn(matrix.shape, generator=torch.Generator().manual_seed(seed)))
    return sam


@pytest.fixture
def sams_folder(base_folder: Path) -> Iterator[Path]:
    """models/sams of this ComfyUI, emptied afterwards."""
    folder = base_folder / "models" / "sams"
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    for path in folder.iterdir():
        path.unlink()


def load(host: Host, name: str) -> Any:
    (segmenter,) = host.segment_loader_node.SubjectDiffusionSegmentLoader.execute(name).args
    return segmenter


def segment(host: Host, segmenter: Any, image: Any, box: str, points: str, clean: Any = RAW) -> Any:
    node_class = host.segment_node.SubjectDiffusionSegment
    return node_class.execute(image, segmenter, box, points, *clean).args


def picture(batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 50, 80, 3, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("box", "points"),
    [(BOX, ""), ("", POINT), (BOX, "0.5,0.4; 0.9,0.9,0"), ("", "[[0.5, 0.4, 1]]")],
)
def test_the_mask_is_the_packages_own(
    host: Host, sams_folder: Path, suffix: str, box: str, points: str
) -> None:
    sam = make_sam()
    path = sams_folder / f"any_name{suffix}"
    save_file(sam.state_dict(), path) if suffix != ".pth" else torch.save(sam.state_dict(), path)
    mask, cut_out = segment(host, load(host, path.name), picture(), box, points)
    predictor = SamPredictor(sam)
    predictor.set_image((picture()[0] * 255).round().byte().numpy())
    given = {"2": np.array([[40.0, 20.0], [72.0, 45.0]]), "1": np.array([[40.0, 20.0]])}
    count = "2" if ";" in points else "1"
    masks, scores, _ = predictor.predict(
        point_coords=given[count] if points else None,
        point_labels=np.array([1, 0][: int(count)]) if points else None,
        box=np.array([8.0, 10.0, 56.0, 45.0]) if box else None,
        multimask_output=not box,
    )
    wanted = torch.from_numpy(masks[scores.argmax()])
    assert torch.equal(mask[0].bool(), wanted)
    assert 0.1 < float(mask.mean()) < 0.9
    assert torch.equal(cut_out[0][wanted], picture()[0][wanted])
    assert bool((cut_out[0][~wanted] == 1).all())


def test_prompts_and_pictures_matter(host: Host, sams_folder: Path) -> None:
    torch.save(make_sam().state_dict(), sams_folder / "sam.pth")
    segmenter = load(host, "sam.pth")
    masks, _ = segment(host, segmenter, picture(2), BOX, "")
    assert masks.shape == (2, 50, 80)
    assert not torch.equal(masks[0], masks[1])
    elsewhere, _ = segment(host, segmenter, picture(2), "0.6,0.6,1,1", "")
    assert not torch.equal(masks, elsewhere)
    pixels = '{"x": 8, "y": 10, "width": 48, "height": 35}'
    assert torch.equal(segment(host, segmenter, picture(2), pixels, "")[0], masks)


@pytest.mark.parametrize(
    ("name", "title"), [("vit_b", "ViT-B"), ("vit_l", "ViT-L"), ("vit_h", "ViT-H")]
)
def test_published_sizes_are_recognised(host: Host, name: str, title: str) -> None:
    """Every tensor of the published geometry, without its memory."""
    with torch.device("meta"):
        published = sam_model_registry[name]()
        state = published.state_dict()
        geometry = host.core("sam_geometry").read_sam_geometry(state, "file.pth")
        ours = host.sam_model.build_sam(geometry)
    assert geometry.name == title
    shapes = {key: tensor.shape for key, tensor in ours.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in state.items()}
    for first, second in zip(
        ours.image_encoder.blocks, published.image_encoder.blocks, strict=True
    ):
        assert first.window_size == second.window_size
        assert first.attn.num_heads == second.attn.num_heads


def test_a_part_of_another_file_is_refused(host: Host, sams_folder: Path) -> None:
    state = make_sam().state_dict()
    torch.save({"something": torch.ones(1)}, sams_folder / "other.pth")
    torch.save({**state, "extra.weight": torch.ones(1)}, sams_folder / "extra.pth")
    torch.save({"run": print}, sams_folder / "code.pth")
    (sams_folder / "pointer.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    (sams_folder / "page.pth").write_bytes(b"<!DOCTYPE html><html>404</html>")
    (sams_folder / "short.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    for name, sentence in {
        "other.pth": r"other\.pth: expected a checkpoint of segment-anything",
        "extra.pth": r"extra\.pth: expected the weights of segment-anything .* got others",
        "code.pth": r"code\.pth: expected an intact .* that holds tensors only, got",
        "pointer.safetensors": r"sams.pointer\.safetensors: expected .*, a Git LFS pointer",
        "page.pth": r"sams.page\.pth: expected .* got something else .* a web page\.",
        "short.safetensors": r"short\.safetensors: expected an intact",
        "absent.pth": r"expected a file in .*sams, got 'absent\.pth'",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            load(host, name)


@pytest.mark.parametrize("name", [{"version": 1}, ["sam.pth"], 3, "a\0b", "", "../sam.pth"])
def test_a_name_that_is_none(host: Host, sams_folder: Path, name: Any) -> None:
    with pytest.raises(ValueError, match=r"segmenter_name: expected a"):
        load(host, name)


@pytest.mark.parametrize("name", ["half \ud800.pth", "\udcff"])
def test_names_of_half_characters(host: Host, sams_folder: Path, name: str) -> None:
    """ComfyUI's queue ended when it wrote one into its log; files may have such names, too."""
    (sams_folder / os.fsdecode(b"sam \xff.pth")).touch()
    with pytest.raises(ValueError, match=r"got '[^']*\\ud.* There is .*sam \\udcff\.pth") as error:
        load(host, name)
    str(error.value).encode("utf-8")


@pytest.mark.parametrize(("height", "width"), [(1, 129), (129, 1)])
def test_a_picture_of_which_nothing_is_left(
    host: Host, sams_folder: Path, height: int, width: int
) -> None:
    """It is made 64 pixels long, and less than half a pixel wide."""
    torch.save(make_sam().state_dict(), sams_folder / "sam.pth")
    segmenter = load(host, "sam.pth")
    with pytest.raises(ValueError, match=rf"at most 128 times as long .* {width}x{height} pixels"):
        segment(host, segmenter, torch.rand(1, height, width, 3), BOX, "")
    longest = torch.rand(1, max(1, height - 1), max(1, width - 1), 3)
    segment(host, segmenter, longest, "", "0.5,0.5")


def test_without_the_package(
    host: Host, sams_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(make_sam().state_dict(), sams_folder / "sam.pth")
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    with pytest.raises(ValueError, match=r"got none\. Install it .*pip install segment-anything"):
        load(host, "sam.pth")


@pytest.mark.parametrize(
    ("box", "points", "sentence"),
    [
        ("", "", "expected a box or points"),
        ("0.5,0,0.2,1", "", "The subject's box: expected x1 < x2"),
        ("", "0.5", "points: expected"),
    ],
)
def test_bad_places(host: Host, sams_folder: Path, box: str, points: str, sentence: str) -> None:
    torch.save(make_sam().state_dict(), sams_folder / "sam.pth")
    with pytest.raises(ValueError, match=sentence):
        segment(host, load(host, "sam.pth"), picture(), box, points)


def test_memory_is_comfyuis(host: Host, sams_folder: Path) -> None:
    torch.save(make_sam().state_dict(), sams_folder / "sam.pth")
    segmenter = load(host, "sam.pth")
    first, _ = segment(host, segmenter, picture(), BOX, "")
    loaded = [entry.model for entry in comfy.model_management.current_loaded_models]
    assert segmenter.patcher in loaded
    comfy.model_management.unload_all_models()
    assert torch.equal(segment(host, segmenter, picture(), BOX, "")[0], first)


def test_cleaning_in_the_node(host: Host, sams_folder: Path) -> None:
    torch.save(make_sam().state_dict(), sams_folder / "sam.pth")
    segmenter = load(host, "sam.pth")
    raw, _ = segment(host, segmenter, picture(), "", POINT)
    cleaned, _ = segment(host, segmenter, picture(), "", POINT, CLEAN)
    cleaning = host.mask_cleaning
    wanted = cleaning.fill_holes(cleaning.largest_component(raw[0].bool()))
    assert torch.equal(cleaned[0].bool(), wanted)
    assert not torch.equal(cleaned, raw)


def test_a_cut_out_becomes_a_subject(
    host: Host, comfy_nodes: Any, sams_folder: Path, base_folder: Path
) -> None:
    """Load Image, Segment, Subject, Layout: the preview of a whole graph."""
    torch.save(make_sam().state_dict(), sams_folder / "sam.pth")
    make_pictures(base_folder / "input")
    graph = {
        "image": node("LoadImage", image="opaque.png"),
        "segmenter": node("SubjectDiffusionSegmentLoader", segmenter_name="sam.pth"),
        "segment": node(
            "SubjectDiffusionSegment", image=["image", 0], segmenter=["segmenter", 0], box=BOX,
            points="", largest_component=True, fill_holes=True,
        ),
        "subject": node(
            "SubjectDiffusionSubject", image=["image", 0], label="dog", box="0,0,1,1",
            strength=1.0, mask=["segment", 0],
        ),
        "layout": node("SubjectDiffusionLayout", subjects=["subject", 0], width=128, height=128),
        "save": node("SaveImage", images=["layout", 1], filename_prefix="graph"),
    }  # fmt: skip
    runner = GraphRunner()
    with_mask = runner.run(graph)
    del graph["subject"]["inputs"]["mask"]
    assert not np.array_equal(runner.run(graph), with_mask)
