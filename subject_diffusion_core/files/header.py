"""What a .safetensors file says of itself: its tensors' names, types and shapes and its metadata.

Only the JSON at the file's beginning is read, so that a file of any size is recognised at once.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import CheckpointError, reason_of, shown
from ..schema import LARGEST_HEADER, MOST_TENSORS

_LENGTH_BYTES = 8
_HEAD_BYTES = 64
_ITEM_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "U16": 2, "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
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
        starts: where in the file each tensor begins, in bytes.
        stamp: time of the last change in ns, and size in bytes: the file that the header is of.
        loaded: the tensors themselves, of a file that tells nothing before it is read; else None.
    """

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    starts: Mapping[str, int] = field(default_factory=dict)
    stamp: tuple[int, int] = (0, 0)
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
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            head, size = file.read(_HEAD_BYTES), status.st_size
            _refuse_other_formats(path, head, size)
            (length,) = struct.unpack("<Q", head[:_LENGTH_BYTES])
            first = _LENGTH_BYTES + length  # byte of the tensors
            if size < first or length > LARGEST_HEADER:
                raise damaged_file(path, f"{size} bytes, its header alone {length}")
            file.seek(_LENGTH_BYTES)
            text = file.read(length)
    except OSError as error:
        raise damaged_file(path, error.strerror or error) from error
    try:
        entries = json.loads(text)
        metadata = _texts(entries.pop("__metadata__", {}))
        if len(entries) > MOST_TENSORS:
            raise ValueError(f"{len(entries)} tensors, more than any model's")
        tensors = {name: _tensor_info(entry) for name, entry in entries.items()}
        starts = {name: first + entry["data_offsets"][0] for name, entry in entries.items()}
        promised = _require_gapless(entries)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise damaged_file(path, f"a header that cannot be read: {reason_of(error)}") from error
    if promised != size - first:
        raise damaged_file(path, f"{size - first} bytes of tensors, {promised} by its header")
    return FileHeader(
        path=path,
        tensors=tensors,
        metadata=metadata,
        starts=starts,
        stamp=(status.st_mtime_ns, size),
    )


def _require_gapless(entries: Mapping[str, Any]) -> int:
    """The bytes of all tensors, which lie behind one another: none stands for two."""
    end = 0
    for first, last in sorted(tuple(entry["data_offsets"]) for entry in entries.values()):
        if first != end or last < first:
            raise ValueError("tensors that overlap or leave gaps")
        end = last
    return end


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
    first, last = entry["data_offsets"]
    size = _ITEM_BYTES.get(info.dtype)
    if size is not None and math.prod(info.shape) * size != last - first:
        raise ValueError("a tensor that takes more or fewer bytes than its numbers do")
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
    kind = next((f", {what}" for start, what in _KINDS.items() if text.startswith(start)), "")
    raise CheckpointError(
        f"{path}: expected a .safetensors file, got something else ({size} bytes){kind}. "
        "Choose another file or download it again."
    )
