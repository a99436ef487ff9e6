"""Writes the files of the full-size example into a folder, as tests/host does for its own test.

A program of its own: it puts ComfyUI into its process, as those tests do.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[2] / "tests"


def write(folder: Path) -> None:
    sys.path[:0] = [str(TESTS / "host"), str(TESTS)]
    import conftest

    try:
        nodes: Any = importlib.import_module("nodes")
        asyncio.run(nodes.init_extra_nodes(init_custom_nodes=True, init_api_nodes=False))
        from full_size import write_full_size_models
        from host_models import Host
        from test_full_size import FILES

        pack = str(conftest.BASE / "custom_nodes" / conftest.PACK_NAME).replace(".", "_x_")
        write_full_size_models(Host(sys.modules[pack]), folder, FILES)
    finally:
        conftest.pytest_unconfigure()


if __name__ == "__main__":
    write(Path(sys.argv[1]).resolve())
