"""The families of adapters: to add one, add its folder and a line here."""

from __future__ import annotations

import os

from ...subject_diffusion_core.files.header import read_header
from .family import AdapterFamily, LoadedAdapter
from .subject_diffusion.family import SUBJECT_DIFFUSION

FAMILIES: list[AdapterFamily] = [SUBJECT_DIFFUSION]


def load_adapter(path: str | os.PathLike[str]) -> LoadedAdapter:
    """Read and check an adapter file of any family."""
    header = read_header(path)
    for family in FAMILIES:
        if family.recognises(header):
            return family.load(header)
    return SUBJECT_DIFFUSION.load(header)  # says what this file is not
