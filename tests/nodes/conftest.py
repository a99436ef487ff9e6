"""Loads the repository as one package, as ComfyUI does, but without ComfyUI.

What of `nodes/` imports no ComfyUI is tested here: `from subject_diffusion_pack.nodes...`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACK = "subject_diffusion_pack"


def load_pack() -> None:
    """Put the repository into `sys.modules` under the name `PACK`; its parts import core
    relatively."""
    spec = importlib.util.spec_from_file_location(
        PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)


load_pack()
