"""The guidance at which an adapter was measured, by its file; with the standard library alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

METADATA_KEY = "subject_diffusion"  # as in subject_diffusion_core/checkpoint.py
LENGTH_BYTES, LARGEST_HEADER = 8, 16_000_000
LARGEST_SCALE = 30.0  # as the Guider's schema has it


class Guidance(NamedTuple):
    """The two scales of Subject-Diffusion Guider, 0 to 30."""

    text: float
    image: float


def measured_guidance(file: Path) -> Guidance | None:
    """What `subject_diffusion_core.files.measured_guidance` finds in the file; None where it says
    nothing, or cannot be read: the node that loads it then says why."""
    try:
        with file.open("rb") as content:
            length = int.from_bytes(content.read(LENGTH_BYTES), "little")
            header = json.loads(content.read(length)) if length <= LARGEST_HEADER else {}
        config = json.loads(header["__metadata__"][METADATA_KEY])
        settings = config["provenance"]["tinybench"]["settings"]
        found = [settings[f"{name}_guidance_scale"] for name in Guidance._fields]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return Guidance(*map(float, found)) if all(map(_is_scale, found)) else None


def _is_scale(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0.0 <= value <= LARGEST_SCALE
