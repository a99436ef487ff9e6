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

_RETRAIN = "The training run diverged or the file is damaged: use an earlier checkpoint."
_LENGTH_BYTES = 8
_PICKLE_MAGICS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read_safetensors(
    path: str | os.PathLike[str], advice_on_nan: str = _RETRAIN
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read all tensors of a file, on the CPU, and its metadata.

    Args:
        advice_on_nan: the sentence that says what to do about NaN or infinity.

    Raises:
        CheckpointError: the file is missing, pickled, truncated or no safetensors file, or holds
            NaN or infinity.
    """
    _refuse_other_formats(Path(path))
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: expected an intact .safetensors file, got a damaged one ({error}). "
            "Download or export it again."
        ) from error
    require_finite(str(path), tensors, advice_on_nan)
    return tensors, metadata


def read_metadata_entry(path: str | os.PathLike[str], metadata: Mapping[str, str], key: str) -> str:
    """One entry of the metadata, or an error that says what kind of file this is not."""
    if key not in metadata:
        found = ", ".join(sorted(metadata)) or "none"
        raise CheckpointError(
            f"{path}: expected the metadata entry '{key}', got {found}. "
            "This file was not made by Subject-Diffusion: choose another one."
        )
    return metadata[key]


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
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{source}: expected finite numbers, got NaN or infinity in '{name}'. {advice}"
            )


def _refuse_other_formats(path: Path) -> None:
    if not path.is_file():
        raise CheckpointError(
            f"{path}: expected a .safetensors file, got nothing there. Check the name and folder."
        )
    with path.open("rb") as file:
        head = file.read(_LENGTH_BYTES + 1)
    # the header's length comes first and may look like a pickle's magic; its brace decides
    if head[_LENGTH_BYTES:] == b"{":
        return
    if head.startswith(_PICKLE_MAGICS):
        raise CheckpointError(
            f"{path}: expected a .safetensors file, got a pickled PyTorch file. "
            "It is not opened, as it could run code: convert it or import it with the importer."
        )
    raise CheckpointError(
        f"{path}: expected a .safetensors file, got something else ({path.stat().st_size} bytes). "
        "Choose another file or download it again."
    )
