"""Adapter files: load, save, import. One .safetensors file holds weights and configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .errors import CheckpointError
from .files.adapter import PARTS, Adapter, StateDict, require_contract
from .files.adapter_config import AdapterBlock, AdapterConfig, config_from_json, config_to_json
from .files.int8_weights import dequantize, quantize
from .files.reference_import import import_reference
from .files.safetensors_file import (
    read_metadata_entry,
    read_safetensors,
    require_finite,
    write_safetensors,
)

__all__ = [
    "METADATA_KEY",
    "Adapter",
    "AdapterBlock",
    "AdapterConfig",
    "CheckpointError",
    "import_reference",
    "load",
    "save",
    "save_provenance",
]
METADATA_KEY = "subject_diffusion"


def load(path: str | os.PathLike[str]) -> Adapter:
    """Read an adapter file and check it completely; weights stored as int8 become float32.

    Raises:
        CheckpointError: the file is missing, pickled, truncated, of another kind or version, holds
            NaN, or its tensors are not those of its configuration.
    """
    tensors, metadata = read_safetensors(path)
    config = config_from_json(read_metadata_entry(path, metadata, METADATA_KEY), str(path))
    tensors = dequantize(tensors, str(path))
    require_contract(config, tensors, str(path))
    parts: dict[str, StateDict] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        parts[part][key] = tensor
    return Adapter(config=config, **parts)


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
    config = replace(load(path).config, provenance=dict(provenance))
    tensors, metadata = read_safetensors(path)
    write_safetensors(path, tensors, {**metadata, METADATA_KEY: config_to_json(config)})
