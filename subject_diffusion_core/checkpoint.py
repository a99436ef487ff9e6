"""Adapter files: load, save, import. One .safetensors file holds weights and configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from .errors import CheckpointError
from .files.adapter import PARTS, Adapter, StateDict, require_contract
from .files.adapter_config import (
    AdapterBlock,
    AdapterConfig,
    config_from_json,
    config_to_json,
    method_in_json,
)
from .files.header import FileHeader, read_header
from .files.int8_weights import dequantize, plain_infos, quantize
from .files.reference_import import import_reference
from .files.safetensors_file import read_tensors, require_finite, write_safetensors

__all__ = [
    "METADATA_KEY",
    "Adapter",
    "AdapterBlock",
    "AdapterConfig",
    "CheckpointError",
    "import_reference",
    "load",
    "method_of",
    "save",
    "save_provenance",
]
METADATA_KEY = "subject_diffusion"


def load(path: str | os.PathLike[str] | FileHeader) -> Adapter:
    """Read an adapter file and check it completely; weights stored as int8 become float32.

    Args:
        path: of the file, or its header, if that was read already.

    Raises:
        CheckpointError: the file is missing, pickled, truncated, of another kind, method or
            version, holds NaN, or its tensors are not those of its configuration.
    """
    header = path if isinstance(path, FileHeader) else read_header(path)
    config = _read_config(header)
    require_contract(config, plain_infos(header.tensors), str(header.path))  # nothing read yet
    return _make_adapter(config, read_tensors(header), str(header.path))


def method_of(header: FileHeader) -> str | None:
    """Which method's adapter a file says that it holds; None if it does not speak of adapters."""
    text = header.metadata.get(METADATA_KEY)
    return None if text is None else method_in_json(text)


def save(path: str | os.PathLike[str], adapter: Adapter, int8: bool = False) -> None:
    """Check an adapter completely and write it atomically.

    Args:
        int8: store weights with two or more dimensions as int8 with a scale per output channel.
    """
    tensors = adapter.tensors()
    require_contract(adapter.config, tensors, str(path))
    require_finite(str(path), tensors)
    stored = quantize(tensors) if int8 else tensors
    write_safetensors(path, stored, {METADATA_KEY: config_to_json(adapter.config)})


def save_provenance(path: str | os.PathLike[str], provenance: Mapping[str, Any]) -> None:
    """Put another provenance into an adapter file, atomically; its weights stay as they are stored.

    Raises:
        CheckpointError: the file is not one that `load` reads.
    """
    header = read_header(path)
    tensors = read_tensors(header)
    config = _make_adapter(_read_config(header), tensors, str(path)).config
    config = replace(config, provenance=dict(provenance))
    write_safetensors(path, tensors, {**header.metadata, METADATA_KEY: config_to_json(config)})


def _read_config(header: FileHeader) -> AdapterConfig:
    return config_from_json(header.require_metadata(METADATA_KEY), str(header.path))


def _make_adapter(
    config: AdapterConfig, stored: Mapping[str, torch.Tensor], source: str
) -> Adapter:
    tensors = dequantize(stored, source)
    require_contract(config, tensors, source)
    parts: dict[str, StateDict] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        parts[part][key] = tensor
    return Adapter(config=config, **parts)
