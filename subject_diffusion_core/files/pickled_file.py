"""Adapter files of other makers, which may be pickled: read as tensors alone, never as code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from .header import FileHeader, TensorInfo, is_pickled, read_header

# in safetensors' words
_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_SMALL = 2**26  # bytes that no tensor needs to justify
_MAX_NAME = 80


def read_any_header(path: str | os.PathLike[str]) -> FileHeader:
    """The header of a .safetensors file, or what stands for one of a pickled file.

    Nested dictionaries of tensors get names with dots: {"image_proj": {"norm.bias": ..}} ->
    "image_proj.norm.bias".

    Raises:
        CheckpointError: the file is missing, damaged, of another kind, or asks to run code.
    """
    return read_pickled(Path(path)) if is_pickled(path) else read_header(path)


def read_pickled(path: Path) -> FileHeader:
    """Read a pickled file; anything in it but dictionaries and tensors is refused."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors = dict(_flattened("", content))
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: expected a .safetensors file, got a pickled PyTorch file that is damaged or "
            "would run code. It was not opened: download it again from its makers, best as "
            ".safetensors."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        raise CheckpointError(
            f"{path}: expected a .safetensors file, got a pickled PyTorch file that is damaged. "
            "Download it again."
        ) from error
    _require_plain(path, tensors)
    infos = {
        name: TensorInfo(_DTYPES.get(t.dtype, str(t.dtype).removeprefix("torch.")), tuple(t.shape))
        for name, t in tensors.items()
    }
    return FileHeader(path=path, tensors=infos, metadata={}, loaded=tensors)


def _flattened(prefix: str, content: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Everything that is no tensor, such as a step count, is left out."""
    if isinstance(content, torch.Tensor):
        yield prefix, content
    elif isinstance(content, dict):
        for name, value in content.items():
            yield from _flattened(f"{prefix}.{name}" if prefix else str(name), value)


def _require_plain(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """A pickled tensor need not be numbers in memory; one number may stand for any size."""
    for name, tensor in tensors.items():
        is_dense = tensor.layout == torch.strided and not tensor.is_quantized
        if not is_dense or tensor.device.type != "cpu":
            raise CheckpointError(
                f"{path}: expected plain tensors, got a sparse, quantised or empty tensor "
                f"'{name[:_MAX_NAME]}'. Download the file again from its makers."
            )
    wanted = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if wanted > _SMALL + 4 * path.stat().st_size:
        raise CheckpointError(
            f"{path}: expected a .safetensors file, got a pickled PyTorch file whose tensors take "
            f"more memory than the file has: {wanted / 2**20:.0f} MiB. Download it again from its "
            "makers."
        )
