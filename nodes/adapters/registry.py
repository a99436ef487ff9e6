"""The families of adapters: to add one, add its folder and a line here."""

from __future__ import annotations

import os

from ...subject_diffusion_core.errors import CheckpointError
from ...subject_diffusion_core.files.header import FileHeader
from ...subject_diffusion_core.files.pickled_file import read_any_header
from .family import AdapterFamily, LoadedAdapter
from .ip_attention.family import IP_ATTENTION
from .subject_diffusion.family import SUBJECT_DIFFUSION

FAMILIES: list[AdapterFamily] = [SUBJECT_DIFFUSION, IP_ATTENTION]


def load_adapter(path: str | os.PathLike[str]) -> LoadedAdapter:
    """Read and check an adapter file of any family."""
    header = read_any_header(path)
    for family in FAMILIES:
        if family.recognises(header):
            return family.load(header)
    _refuse(header)
    return SUBJECT_DIFFUSION.load(header)  # says what this file is not


def _refuse(header: FileHeader) -> None:
    """A sentence about files of no family that are often taken for one."""
    if header.loaded is not None:
        raise CheckpointError(
            f"{header.path}: expected a .safetensors file, got a pickled PyTorch file that holds "
            "no IP-Adapter and no MS-Diffusion. Choose another file."
        )
    if not header.metadata and any("lora" in name.lower() for name in header.tensors):
        raise CheckpointError(
            f"{header.path}: expected the metadata entry 'subject_diffusion', got none. This file "
            "is a LoRA: load it with Load LoRA and choose an adapter here."
        )
