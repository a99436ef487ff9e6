"""The ComfyUI that the benchmarks run in."""

from __future__ import annotations

import os
from pathlib import Path

from devtools.host import Host, checked_host

ROOT = Path(__file__).resolve().parents[1]


def find_comfyui() -> Host:
    """That of COMFYUI_PATH, else the one in .dev."""
    given = os.environ.get("COMFYUI_PATH")
    folder = Path(given).expanduser().resolve() if given else ROOT / ".dev" / "comfyui"
    return checked_host(folder, "COMFYUI_PATH")
