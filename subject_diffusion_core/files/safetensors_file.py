"""Reading and writing .safetensors files with our metadata; every failure is one clear sentence."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import CheckpointError
from .header import FileHeader, damaged_file, read_header

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
    try:
        if header.loaded is not None:
            tensors = dict(header.loaded)
        else:
            with safe_open(header.path, framework="pt", device="cpu") as file:
                tensors = {name: file.get_tensor(name) for name in header.tensors}
    except (SafetensorError, OSError) as error:
        raise damaged_file(header.path, error) from error
    require_finite(str(header.path), tensors, advice_on_nan)
    return tensors


def write_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a file atomically: a reader sees the old file or the whole new one."""
    target = Path(path)
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    temporary = target.with_name(f"{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors' own file may be read by its owner only
        save_file(plain, temporary, metadata=dict(metadata))
        temporary.chmod(mode)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
