"""Fifteen kinds of bad input for IP-Adapter and MS-Diffusion: a sentence each, and the next picture
is the same, bit for bit."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from host_models import Host
from ip_models import Vision, write_file
from safetensors.torch import save_file
from sdxl_models import make_sdxl_base
from test_ip_adapter import Setup, setup  # noqa: F401

LONGEST_SENTENCE = 600


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code ran",)


def with_text(text: str) -> Callable[[Path, Any], None]:
    return lambda path, _file: path.write_text(text) and None


def with_change(change: Callable[[Any], object]) -> Callable[[Path, Any], None]:
    """A file of IP-Adapter plus with one change."""

    def write(path: Path, file: Any) -> None:
        copy = {part: dict(tensors) for part, tensors in file.items()}
        change(copy)
        write_file(path, copy)

    return write


def a_lora(path: Path, _file: Any) -> None:
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1)}, path)


def an_ms_diffusion_without_dummies(path: Path, file: Any) -> None:
    renamed = {"image_proj": file["image_proj"], "ms_adapter": file["ip_adapter"]}
    write_file(path, renamed)


FILES: dict[str, tuple[str, Callable[[Path, Any], None], str]] = {
    "half a file": (".bin", with_change(lambda file: file.pop("ip_adapter")), "complete file of"),
    "FaceID": (
        ".bin",
        with_change(
            lambda file: file.update(
                image_proj={"proj.0.weight": torch.zeros(8, 512), "norm.weight": torch.zeros(8)}
            )
        ),
        "needs a face recognition network",
    ),
    "LFS pointer": (
        ".safetensors",
        with_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "a Git LFS pointer",
    ),
    "HTML page": (".bin", with_text("<!DOCTYPE html>"), "a web page"),
    "NaN": (
        ".safetensors",
        with_change(
            lambda file: file["image_proj"].update(latents=torch.full((1, 16, 128), torch.nan))
        ),
        "expected finite numbers, got NaN or infinity in 'image_proj.latents'",
    ),
    "wrong count of pairs": (
        ".safetensors",
        with_change(lambda file: [file["ip_adapter"].pop(f"1.to_{x}_ip.weight") for x in "kv"]),
        "pairs of keys and values, got",
    ),
    "wrong width": (
        ".bin",
        with_change(
            lambda file: file["ip_adapter"].update({"1.to_k_ip.weight": torch.zeros(8, 5)})
        ),
        "keys and values of width 48",
    ),
    "pickle with code": (
        ".bin",
        lambda path, _file: path.write_bytes(pickle.dumps(RunsCode(), protocol=2)) and None,
        "damaged or would run code. It was not opened",
    ),
    "empty file": (".safetensors", with_text(""), r"got something else \(0 bytes\)"),
    "text file": (".bin", with_text("hello"), r"got something else \(5 bytes\)"),
    "two families mixed": (
        ".bin",
        with_change(lambda file: file.update(ms_adapter=dict(file["ip_adapter"]))),
        "expected the tensors of one adapter",
    ),
    "missing dummy tokens": (".bin", an_ms_diffusion_without_dummies, "without dummy_image_tokens"),
    "a LoRA": (".safetensors", a_lora, "This file is a LoRA: load it with Load LoRA"),
}


def test_bad_files(setup: Setup, models_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """From the loader node; then the good file makes the same picture."""
    wanted = setup.run(setup.subject())
    node = setup.host.adapter_loader_node.SubjectDiffusionAdapterLoader
    for kind, (suffix, write, sentence) in FILES.items():
        path = models_folder / f"bad{suffix}"
        write(path, setup.files["plus"])
        with pytest.raises(ValueError, match=sentence) as raised:
            node.execute(path.name)
        path.unlink()
        require_one_sentence(kind, str(raised.value))
        assert torch.equal(setup.run(setup.subject()), wanted), kind
    assert "code ran" not in capsys.readouterr().out


def test_wrong_encoder_and_wrong_base(setup: Setup, host: Host, tmp_path: Path) -> None:  # noqa: F811
    wanted = setup.run(setup.subject())
    wide = Vision(tmp_path, hidden_size=96, projection_dim=48)
    _, clip = setup.apply()
    encode = host.encode_node.SubjectDiffusionEncode.execute
    adapter = setup.adapters["plus"]
    with pytest.raises(ValueError, match="clip_vision: expected an encoder with tokens") as raised:
        encode(clip, wide.ours, adapter, (setup.subject(),), "a dog", "")
    require_one_sentence("wrong encoder", str(raised.value))
    assert torch.equal(setup.run(setup.subject()), wanted)
    with pytest.raises(ValueError, match="model: expected a base of its own with text") as raised:
        setup.apply(model=make_sdxl_base(host).model)
    require_one_sentence("wrong base", str(raised.value))
    assert torch.equal(setup.run(setup.subject()), wanted)
    assert len(FILES) + 2 == 15


def require_one_sentence(kind: str, sentence: str) -> None:
    assert "\n" not in sentence and len(sentence) < LONGEST_SENTENCE, kind
