"""Public files through the nodes: which folders, what they say, what is refused, full geometry."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_detection
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from diffusers import UNet2DConditionModel
from host_models import Host
from ip_models import Vision, flat, make_file, write_file
from safetensors.torch import save_file
from sdxl_models import make_sdxl_base
from test_ip_adapter import Setup, setup  # noqa: F401
from test_nodes import make_subject

from benchmarks.full_size.full_size_files import UNETS

META, CPU = torch.device("meta"), torch.device("cpu")
FULL_SIZE = {"SD15": (UNETS["sd15"], 16), "SDXL": (UNETS["sdxl"], 70)}


@pytest.fixture
def ip_folder(base_folder: Path) -> Iterator[Path]:
    """models/ipadapter of this process's ComfyUI, as IPAdapter users have it."""
    folder = base_folder / "models" / "ipadapter"
    folder.mkdir()
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.parametrize("name", FULL_SIZE)
def test_layers_are_those_of_diffusers_in_its_order(host: Host, name: str) -> None:
    """By name and width, at full size, and every layer has a place of its own in ComfyUI."""
    config, count = FULL_SIZE[name]
    with META:
        unet = UNet2DConditionModel(**config)
    unet_config = comfy.model_detection.unet_config_from_diffusers_unet(unet.state_dict())
    model_config = getattr(comfy.supported_models, name)(unet_config)
    model_config.set_inference_dtype(torch.float32, None)
    model = model_config.get_model({}, device=META)
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=CPU, offload_device=CPU)
    geometry = host.unet_geometry.read_unet_geometry(patcher)
    ours = ordered_blocks(host, geometry)
    theirs = [n.split(".attn2")[0] for n in unet.attn_processors if ".attn2" in n]
    assert ours == theirs and len(ours) == count
    widths = [unet.get_submodule(f"{block}.attn2").to_q.in_features for block in theirs]
    assert [geometry.blocks[block].query_dim for block in ours] == widths
    assert len({geometry.blocks[block].location for block in ours}) == count
    presets = block_presets(host, ours)
    acting = {preset: sum(w > 0 for w in presets[preset].values()) for preset in presets}
    wanted = {"style": 11, "composition": 2} if name == "SD15" else {"style": 10, "composition": 10}
    assert acting == {"ease in": count, "ease out": count, **wanted}


def ordered_blocks(host: Host, geometry: Any) -> list[str]:
    return module_of(host, "family").ordered_blocks(geometry)


def block_presets(host: Host, names: list[str]) -> Any:
    return module_of(host, "block_presets").block_presets(names)


def module_of(host: Host, name: str) -> Any:
    return importlib.import_module(f"{host.pack.__name__}.nodes.adapters.ip_attention.{name}")


def test_the_loader_lists_both_folders(
    setup: Setup,  # noqa: F811
    ip_folder: Path,
    models_folder: Path,
) -> None:
    node = setup.host.adapter_loader_node.SubjectDiffusionAdapterLoader
    write_file(ip_folder / "theirs.bin", setup.files["plus"])
    write_file(models_folder / "ours.safetensors", setup.files["base"])
    (combo,) = node.define_schema().inputs
    assert {"theirs.bin", "ours.safetensors"} <= set(combo.options)
    assert node.validate_inputs("theirs.bin") is True
    (adapter,) = node.execute("theirs.bin").args
    assert adapter.summary == (
        "IP-Adapter plus for a base of its own (6 layers), image encoder one of token width 64"
    )
    assert str(ip_folder) in node.validate_inputs("nothing.bin")


def test_wrong_encoder(setup: Setup, tmp_path: Path) -> None:  # noqa: F811
    _, clip = setup.apply("plus")
    node = setup.host.encode_node.SubjectDiffusionEncode
    wide = Vision(tmp_path, hidden_size=96, projection_dim=48)
    tiny = setup.host.tiny_clip_vision.TinyClipVision(setup.host.tiny)
    for vision in (wide.ours, tiny):
        with pytest.raises(ValueError, match=r"clip_vision: expected an encoder with tokens of widt"
                           "h 64 for the adapter 'plus.safetensors', got width"):  # fmt: skip
            node.execute(clip, vision, setup.adapters["plus"], (setup.subject(),), "a dog", "")


def test_wrong_base(setup: Setup) -> None:  # noqa: F811
    sdxl, sd15 = make_sdxl_base(setup.host), setup.host.make_base("sd15")
    for base, got in ((sdxl, 80), (sd15, 96)):
        wanted = rf"a base of its own with text of width 48 for the adapter '.*', got {got}"
        with pytest.raises(ValueError, match=f"model: expected {wanted}"):
            setup.apply("plus", model=base.model)


def test_files_of_no_family(setup: Setup, tmp_path: Path) -> None:  # noqa: F811
    load = setup.host.registry.load_adapter
    lora = tmp_path / "lora.safetensors"
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, lora)
    with pytest.raises(ValueError, match="This file is a LoRA: load it with Load LoRA"):
        load(lora)
    other = tmp_path / "other.bin"
    torch.save({"state_dict": {"a": torch.zeros(1)}}, other)
    with pytest.raises(ValueError, match="a pickled PyTorch file that holds no IP-Adapter"):
        load(other)
    assert flat(make_file("base", setup.base.unet))  # the next good file is read
    load(write_file(tmp_path / "good.bin", setup.files["base"]))


def test_a_file_that_only_says_that_it_is_one(setup: Setup, tmp_path: Path) -> None:  # noqa: F811
    """Its metadata name the method, as ours do."""
    path = tmp_path / "named.safetensors"
    metadata = {"subject_diffusion": json.dumps({"format_version": 1, "method": "ip_attention"})}
    save_file({"a": torch.zeros(1)}, path, metadata)
    with pytest.raises(ValueError, match=r"expected a complete file of IP-Adapter or MS-Diffusion, "
                       r"got a file without image_proj\.\*"):  # fmt: skip
        setup.load(path)
    save_file(flat(setup.files["plus"]), path, metadata)
    assert setup.load(path).summary.startswith("IP-Adapter plus")


def test_box_coordinates_have_no_meaning_here(
    setup: Setup,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, clip = setup.apply("plus")
    subject = make_subject(setup.host, box="")
    setup.encode(clip, subject, box_coordinates=False)
    assert "box_coordinates has no effect: image tokens of an IP-Adapter carry no places" in (
        caplog.text
    )


def test_a_box_in_pixels_is_refused(setup: Setup) -> None:  # noqa: F811
    _, clip = setup.apply("plus")
    with pytest.raises(ValueError, match="Subject 1's box is in pixels"):
        setup.encode(clip, setup.subject(box='{"x": 10, "y": 10, "width": 90, "height": 90}'))


def test_a_folder_that_is_gone_is_not_missed(host: Host, base_folder: Path) -> None:
    """models/ipadapter was there when ComfyUI listed it first, and was deleted since."""
    adapters = host.adapter_loader_node.ADAPTERS
    folder = base_folder / "models" / "ipadapter"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "one.bin").touch()
    assert "one.bin" in adapters.file_names()
    shutil.rmtree(folder)
    assert "one.bin" not in adapters.file_names()
