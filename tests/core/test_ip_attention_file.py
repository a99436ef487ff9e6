"""Files of IP-Adapter and MS-Diffusion under their makers' keys, whole and broken."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.files import ip_attention_file
from subject_diffusion_core.files.header import FileHeader, TensorInfo
from subject_diffusion_core.files.ip_attention_file import (
    BASE,
    FULL_FACE,
    GROUNDED,
    PLUS,
    IpAttentionFile,
)
from subject_diffusion_core.files.pickled_file import read_any_header
from subject_diffusion_core.ip_attention import (
    FullFaceProjection,
    GroundingResampler,
    ImageProjection,
    PerceiverResampler,
)

Tensors = dict[str, torch.Tensor]
CONTEXT = 40
SMALL: dict[str, Callable[[], nn.Module]] = {
    BASE: lambda: ImageProjection(24, CONTEXT),
    PLUS: lambda: PerceiverResampler(64, 2, 64, 1, 16, 24, CONTEXT),
    FULL_FACE: lambda: FullFaceProjection(24, CONTEXT),
    GROUNDED: lambda: GroundingResampler(64, 2, 64, 1, 16, 24, CONTEXT, label_dim=20),
}


def layers(widths: list[int], context_dim: int) -> Tensors:
    """One tensor without memory for every key and value."""
    zero = torch.zeros(1)
    return {
        f"{2 * index + 1}.to_{letter}_ip.weight": zero.expand(width, context_dim)
        for index, width in enumerate(widths)
        for letter in "kv"
    }


def small_file(kind: str) -> dict[str, Any]:
    """Nested, as it is pickled."""
    file: dict[str, Any] = {"image_proj": dict(SMALL[kind]().state_dict())}
    if kind == GROUNDED:
        return file | {"ms_adapter": layers([8, 16, 8], CONTEXT), "dummy_image_tokens":
                       torch.zeros(1, 4, CONTEXT)}  # fmt: skip
    return file | {"ip_adapter": layers([8, 16, 8], CONTEXT)}


def flat(file: dict[str, Any], prefix: str = "") -> Tensors:
    flattened = {}
    for name, content in file.items():
        if isinstance(content, dict):
            flattened |= flat(content, f"{prefix}{name}.")
        else:
            flattened[prefix + name] = content.contiguous()
    return flattened


def write(path: Path, file: dict[str, Any]) -> Path:
    if path.suffix == ".bin":
        torch.save(file, path)
    else:
        save_file(flat(file), path)
    return path


def load(path: Path) -> IpAttentionFile:
    header = read_any_header(path)
    assert ip_attention_file.recognises(header)
    return ip_attention_file.load(header)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_both_formats(tmp_path: Path, kind: str, suffix: str) -> None:
    file = small_file(kind)
    loaded = load(write(tmp_path / f"file{suffix}", file))
    assert (loaded.kind, loaded.context_dim, loaded.embed_dim) == (kind, CONTEXT, 24)
    assert [key.shape[0] for key, _ in loaded.pairs] == [8, 16, 8]
    state = loaded.build_projection().state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in file["image_proj"].items())


def test_both_formats_are_one_adapter(tmp_path: Path) -> None:
    file, other = small_file(PLUS), small_file(PLUS)
    pickled, plain, changed = (
        load(write(tmp_path / name, content)).fingerprint
        for name, content in (("a.bin", file), ("b.safetensors", file), ("c.bin", other))
    )
    assert pickled == plain != changed


def without_memory(module: nn.Module) -> Tensors:
    zero = torch.zeros(1)
    return {name: zero.expand(tensor.shape) for name, tensor in module.state_dict().items()}


SD15_WIDTHS = [320] * 2 + [640] * 2 + [1280] * 2 + [1280] * 3 + [640] * 3 + [320] * 3 + [1280]
SDXL_WIDTHS = [640] * 4 + [1280] * 20 + [1280] * 30 + [640] * 6 + [1280] * 10
PUBLISHED = {
    "ip-adapter_sd15": (BASE, 768, lambda: ImageProjection(1024, 768), "CLIP ViT-H/14"),
    "ip-adapter-plus_sd15": (
        PLUS, 768, lambda: PerceiverResampler(768, 4, 64, 12, 16, 1280, 768), "CLIP ViT-H/14",
    ),
    "ip-adapter-full-face_sd15": (
        FULL_FACE, 768, lambda: FullFaceProjection(1280, 768), "CLIP ViT-H/14",
    ),
    "ip-adapter_sdxl": (BASE, 2048, lambda: ImageProjection(1280, 2048), "CLIP ViT-bigG/14"),
    "ip-adapter_sdxl_vit-h": (BASE, 2048, lambda: ImageProjection(1024, 2048), "CLIP ViT-H/14"),
    "ip-adapter-plus_sdxl_vit-h": (
        PLUS, 2048, lambda: PerceiverResampler(1280, 4, 64, 20, 16, 1280, 2048), "CLIP ViT-H/14",
    ),
    "ms_adapter": (
        GROUNDED, 2048, lambda: GroundingResampler(1280, 4, 64, 20, 16, 1664, 2048, 768),
        "CLIP ViT-bigG/14",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_complete_sets_of_keys(name: str) -> None:
    """Of full size by shape, without the memory."""
    kind, context_dim, make, encoder = PUBLISHED[name]
    widths = SD15_WIDTHS if context_dim == 768 else SDXL_WIDTHS
    with torch.device("meta"):
        projection = make()
    pairs = "ms_adapter" if kind == GROUNDED else "ip_adapter"
    file = {"image_proj": without_memory(projection), pairs: layers(widths, context_dim)}
    tensors = {f"{part}.{key}": value for part, values in file.items()
               for key, value in values.items()}  # fmt: skip
    if kind == GROUNDED:
        tensors["dummy_image_tokens"] = torch.zeros(1, 4, 2048)
    infos = {key: TensorInfo("F16", tuple(tensor.shape)) for key, tensor in tensors.items()}
    header = FileHeader(path=Path(name), tensors=infos, metadata={}, loaded=tensors)
    loaded = ip_attention_file.load(header)
    assert (loaded.kind, loaded.encoder) == (kind, encoder)
    assert loaded.base == ("SD 1.5" if context_dim == 768 else "SDXL")
    assert len(loaded.pairs) == (16 if context_dim == 768 else 70)


@pytest.mark.parametrize(
    ("kind", "name", "empty"),
    [
        (PLUS, "image_proj.latents", (1, 0, 64)),
        (GROUNDED, "image_proj.grounding_latents", (1, 0, 64)),
        (BASE, "image_proj.proj.weight", (0, 24)),
        (BASE, "ip_adapter.1.to_k_ip.weight", (0, CONTEXT)),
    ],
)
def test_files_without_numbers(
    tmp_path: Path, kind: str, name: str, empty: tuple[int, ...]
) -> None:
    """They would load and do nothing."""
    path = tmp_path / "file.safetensors"
    save_file({**flat(small_file(kind)), name: torch.zeros(empty)}, path)
    with pytest.raises(CheckpointError, match=r"expected numbers in '.*', got an empty tensor"):
        load(path)


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code ran",)


def broken(kind: str, path: Path) -> None:
    """A file of a kind of BROKEN."""
    file = small_file(GROUNDED if "dummy" in kind else PLUS)
    image, pairs = file["image_proj"], file.get("ip_adapter", {})
    special: dict[str, Callable[[], Any]] = {
        "only the projection": lambda: file.pop("ip_adapter"),
        "only the layers": lambda: file.pop("image_proj"),
        "half a resampler": lambda: image.pop("norm_out.bias"),
        "no first layer": lambda: [image.pop(k) for k in list(image) if k.startswith("layers.")],
        "FaceID": lambda: file.update(
            image_proj={"proj.0.weight": torch.zeros(8, 512), "norm.weight": torch.zeros(8)}
        ),
        "FaceID plus": lambda: image.update({"perceiver_resampler.norm": torch.zeros(8)}),
        "InstantID": lambda: image.update({"proj_in.weight": torch.zeros(64, 512)}),
        "NaN": lambda: image["latents"].fill_(float("nan")),
        "a missing pair": lambda: pairs.pop("3.to_k_ip.weight"),
        "a gap": lambda: [pairs.pop(f"3.to_{letter}_ip.weight") for letter in "kv"],
        "wrong width": lambda: pairs.update({"1.to_k_ip.weight": torch.zeros(8, 48)}),
        "a wrong shape": lambda: image.update({"norm_out.bias": torch.zeros(3)}),
        "surplus": lambda: image.update({"surplus": torch.zeros(3)}),
        "unknown projection": lambda: file.update(image_proj={"what": torch.zeros(3)}),
        "two families": lambda: file.update(ms_adapter=layers([8], CONTEXT)),
        "no dummy tokens": lambda: file.pop("dummy_image_tokens"),
        "tensors of nothing": lambda: image.update(
            {"latents": torch.zeros(1).expand(1, 10**9, 64)}
        ),
        "sparse": lambda: pairs.update({"1.to_k_ip.weight": torch.zeros(8, CONTEXT).to_sparse()}),
        "meta": lambda: pairs.update({"1.to_k_ip.weight": torch.zeros(8, CONTEXT, device="meta")}),
        "8 bits": lambda: image.update({"latents": image["latents"].to(torch.float8_e4m3fn)}),
        "whole numbers": lambda: pairs.update({"1.to_k_ip.weight": torch.ones(8, CONTEXT).long()}),
        "10**9 layers": lambda: image.update({"layers.1000000000.0.to_q.weight": torch.zeros(3)}),
        "a long name": lambda: image.update({"q" * 10**6: torch.zeros(3)}),
    }
    if kind == "15 pairs":
        projection = ImageProjection(24, 768)
        file = {"image_proj": dict(projection.state_dict()), "ip_adapter": layers([8] * 15, 768)}
    elif kind == "code":
        path.write_bytes(pickle.dumps(RunsCode(), protocol=2))
        return
    elif kind in ("LFS pointer", "HTML", "empty", "text"):
        texts = {"LFS pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                 "HTML": "<!DOCTYPE html>", "empty": "", "text": "hello"}  # fmt: skip
        path.write_text(texts[kind])
        return
    elif kind == "truncated":
        write(path.with_suffix(".bin"), file)
        path.write_bytes(path.with_suffix(".bin").read_bytes()[:2000])
        return
    else:
        special[kind]()
    torch.save(file, path)


BROKEN = {
    "only the projection": r"complete file of .*, got a file without ip_adapter\.\*",
    "only the layers": r"complete file of .*, got a file without image_proj\.\*",
    "half a resampler": r"got a file without image_proj\.norm_out\.bias\.",
    "no first layer": r"got a file without image_proj\.layers\.",
    "FaceID": "got one of a face identity .* needs a face recognition network",
    "FaceID plus": "got one of a face identity",
    "InstantID": "got one of a face identity",
    "NaN": "expected finite numbers, got NaN or infinity in 'image_proj.latents'",
    "a missing pair": "expected 3 pairs of keys and values, got 5 tensors of 3 layers",
    "a gap": "expected 2 pairs of keys and values, got 4 tensors of 2 layers",
    "15 pairs": r"expected 16 pairs of keys and values for SD 1\.5, got 30 tensors of 15 layers",
    "wrong width": r"keys and values of width 40 as the image tokens, got \(8, 48\)",
    "a wrong shape": r"expected 'image_proj\.norm_out\.bias' of shape \(40,\), got \(3,\)",
    "surplus": r"got one with 1 others, such as 'image_proj\.surplus'",
    "unknown projection": r"got a file whose image_proj\.\* \(what\) is unknown",
    "two families": "expected the tensors of one adapter, got those of IP-Adapter .* in one file",
    "no dummy tokens": "got a file of MS-Diffusion without dummy_image_tokens",
    "tensors of nothing": "pickled PyTorch file whose tensors take more memory than the file",
    "sparse": r"got a sparse, quantised or empty tensor 'ip_adapter\.1\.to_k_ip\.weight'",
    "meta": r"got a sparse, quantised or empty tensor 'ip_adapter\.1\.to_k_ip\.weight'",
    "8 bits": r"expected numbers of 16 or 32 bits, got float8_e4m3fn in 'image_proj\.latents'",
    "whole numbers": r"expected numbers of 16 or 32 bits, got int64 in 'ip_adapter\.1\.to_k_ip\.w",
    "10**9 layers": r"got a file without image_proj\.layers\.2\.|got one with 1 others",
    "a long name": r"got one with 1 others, such as 'image_proj\.qqq",
    "code": "pickled PyTorch file that is damaged or would run code. It was not opened",
    "truncated": "got a pickled PyTorch file that is damaged",
    "LFS pointer": r"expected a \.safetensors file, got something else .* a Git LFS pointer",
    "HTML": r"expected a \.safetensors file, got something else .* a web page",
    "empty": r"expected a \.safetensors file, got something else \(0 bytes\)",
    "text": r"expected a \.safetensors file, got something else \(5 bytes\)",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file.bin"
    broken(kind, path)
    with pytest.raises(CheckpointError, match=BROKEN[kind]) as raised:
        load(path)
    assert str(raised.value).count(str(path)) == 1
    assert len(str(raised.value)) < 600
    assert "code ran" not in capsys.readouterr().out
