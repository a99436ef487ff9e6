"""What a .safetensors file says of itself: its tensors' names, types and shapes and its metadata.

Only the JSON at the file's beginning is read, so that a file of any size is recognised at once.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import CheckpointError, shown

MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
_LENGTH_BYTES = 8
_HEAD_BYTES = 64
_PICKLE_MAGICS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_KINDS = {
    b"version https://git-lfs": "a Git LFS pointer in its place",
    b"<": "a web page",
}


class TensorInfo(NamedTuple):
    """A tensor that was not read; `dtype` in safetensors' words, for example "F16"."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class FileHeader:
    """A file by its header.

    Attributes:
        tensors: by name.
        metadata: free texts by name.
        loaded: the tensors themselves, of a file that tells nothing before it is read; else None.
    """

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    loaded: Mapping[str, torch.Tensor] | None = None

    def require_metadata(self, key: str) -> str:
        """One entry of the metadata, or an error that says what kind of file this is not."""
        if key not in self.metadata:
            found = shown(", ".join(sorted(self.metadata)) or "none")
            raise CheckpointError(
                f"{self.path}: expected the metadata entry '{key}', got {found}. "
                "This file was not made by Subject-Diffusion: choose another one."
            )
        return self.metadata[key]


def read_header(path: str | os.PathLike[str]) -> FileHeader:
    """Read a file's header.

    Raises:
        CheckpointError: the file is missing, pickled, truncated or no safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: expected a .safetensors file, got nothing there. Check the name and folder."
        )
    with path.open("rb") as file:
        head, size = file.read(_HEAD_BYTES), path.stat().st_size
        _refuse_other_formats(path, head, size)
        (length,) = struct.unpack("<Q", head[:_LENGTH_BYTES])
        num_bytes = size - _LENGTH_BYTES - length  # of all tensors
        if num_bytes < 0 or length > MAX_HEADER_BYTES:
            raise damaged_file(path, f"{size} bytes, its header alone {length}")
        file.seek(_LENGTH_BYTES)
        text = file.read(length)
    try:
        entries = json.loads(text)
        metadata = _texts(entries.pop("__metadata__", {}))
        tensors = {name: _tensor_info(entry) for name, entry in entries.items()}
        promised = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise damaged_file(path, f"a header that cannot be read: {error}") from error
    if promised != num_bytes:
        raise damaged_file(path, f"{num_bytes} bytes of tensors, {promised} by its header")
    return FileHeader(path=path, tensors=tensors, metadata=metadata)


def is_pickled(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a pickled PyTorch file does."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return _begins_as_pickle(file.read(_HEAD_BYTES))


def damaged_file(path: Path, reason: object) -> CheckpointError:
    """The error of a file that was cut off or changed."""
    return CheckpointError(
        f"{path}: expected an intact .safetensors file, got a damaged one ({reason}). "
        "Download or export it again."
    )


def _texts(entries: Any) -> dict[str, str]:
    if not all(isinstance(text, str) for text in entries.values()):
        raise ValueError("metadata that is no text")
    return dict(entries)


def _tensor_info(entry: Any) -> TensorInfo:
    info = TensorInfo(entry["dtype"], tuple(entry["shape"]))
    sizes = (*info.shape, *entry["data_offsets"])
    if not isinstance(info.dtype, str) or not all(isinstance(n, int) and n >= 0 for n in sizes):
        raise ValueError("a tensor without a type or shape")
    return info


def _has_header(head: bytes) -> bool:
    """The header's length comes first and may look like a pickle's magic; its brace decides."""
    return head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{"


def _begins_as_pickle(head: bytes) -> bool:
    return head.startswith(_PICKLE_MAGICS) and not _has_header(head)


def _refuse_other_formats(path: Path, head: bytes, size: int) -> None:
    if _has_header(head):
        return
    if _begins_as_pickle(head):
        raise CheckpointError(
            f"{path}: expected a .safetensors file, got a pickled PyTorch file. "
            "It is not opened, as it could run code: convert it or import it with the importer."
        )
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    kind = next((f", {kind}" for start, kind in _KINDS.items() if text.startswith(start)), "")
    raise CheckpointError(
        f"{path}: expected a .safetensors file, got something else ({size} bytes){kind}. "
        "Choose another file or download it again."
    )
