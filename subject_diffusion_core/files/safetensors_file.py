"""Reading and writing .safetensors files with our metadata; every failure is one clear sentence."""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors.torch import save_file

from ..errors import CheckpointError, shown
from .header import FileHeader, damaged_file, read_header

# safetensors' names; a PyTorch may lack some of the small types
_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32",
    "U16": "uint16", "U8": "uint8", "BOOL": "bool", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}  # fmt: skip
DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, own) for name, own in _NAMES.items() if hasattr(torch, own)
}
_RETRAIN = "The training run diverged or the file is damaged: use an earlier checkpoint."


def read_safetensors(
    path: str | os.PathLike[str], advice_on_nan: str = _RETRAIN
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read all tensors of a file, on the CPU, and its metadata; see `read_tensors`."""
    header = read_header(path)
    return read_tensors(header, advice_on_nan), dict(header.metadata)


def read_tensors(header: FileHeader, advice_on_nan: str = _RETRAIN) -> dict[str, torch.Tensor]:
    """Read all tensors of the header's file, on the CPU.

    Args:
        advice_on_nan: the sentence that says what to do about NaN or infinity.

    Raises:
        CheckpointError: the file is damaged, or holds NaN or infinity.
    """
    tensors = _read(header) if header.loaded is None else dict(header.loaded)
    require_finite(str(header.path), tensors, advice_on_nan)
    return tensors


def _read(header: FileHeader) -> dict[str, torch.Tensor]:
    """Copies in memory: a mapped file that another program writes over would end the process."""
    try:
        with header.path.open("rb") as file:
            tensors = {name: _read_tensor(file, header, name) for name in header.tensors}
            status = os.fstat(file.fileno())
    except OSError as error:
        raise damaged_file(header.path, error.strerror or error) from error
    if (status.st_mtime_ns, status.st_size) != header.stamp:
        raise damaged_file(header.path, "it was changed while it was read")
    return tensors


def _read_tensor(file: BinaryIO, header: FileHeader, name: str) -> torch.Tensor:
    dtype_name, shape = header.tensors[name]
    dtype = DTYPES.get(dtype_name)
    if dtype is None:
        raise damaged_file(header.path, f"numbers of the type {shown(dtype_name, 20)}")
    num_bytes = math.prod(shape) * dtype.itemsize
    if header.starts[name] + num_bytes > header.stamp[1]:
        raise damaged_file(header.path, f"'{shown(name, 80)}' goes beyond its end")
    content = torch.empty(num_bytes, dtype=torch.uint8)
    file.seek(header.starts[name])
    if num_bytes and file.readinto(content.numpy()) != num_bytes:  # type: ignore[attr-defined]
        raise damaged_file(header.path, "it was changed while it was read")
    return content.view(dtype).reshape(shape)


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
    exclusive: bool = False,
) -> None:
    """Write a file atomically: a reader sees the old file or the whole new one.

    Args:
        exclusive: raise FileExistsError where there is a file of this name already, also one that
            another program writes at this moment.
    """
    target = Path(path)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors' own file may be read by its owner only
        save_file(plain, temporary, metadata=dict(metadata))
        temporary.chmod(mode)
        if exclusive:
            _take_name(temporary, target)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _take_name(temporary: Path, target: Path) -> None:
    """Make `target` ours or raise FileExistsError; whole at once where the disk knows links."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


def require_finite(
    source: str, tensors: Mapping[str, torch.Tensor], advice: str = _RETRAIN
) -> None:
    """Raise CheckpointError if a tensor holds NaN or infinity; `advice` says what to do then."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        # PyTorch has no test for numbers of 8 bits
        numbers = tensor.half() if tensor.element_size() == 1 else tensor
        if not bool(numbers.isfinite().all()):
            raise CheckpointError(
                f"{source}: expected finite numbers, got NaN or infinity in '{name}'. {advice}"
            )
