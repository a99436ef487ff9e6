"""The real ComfyUI inside this process, with the pack in its custom_nodes."""

from __future__ import annotations

import asyncio
import importlib
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from devtools.api_client import Graph
from devtools.console import DevError
from devtools.server import temporary_base

from ..comfyui import ROOT, find_comfyui


class InProcessHost:
    """Runs graphs one after the other, with ComfyUI's memory of earlier outputs."""

    def __init__(self, base: Path) -> None:
        for picture in (ROOT / "assets").rglob("*.png"):
            shutil.copy(picture, base / "input")
        sys.path.insert(0, str(find_comfyui().folder))
        from comfy.cli_args import args

        args.cpu = True
        args.base_directory = str(base)
        args.disable_api_nodes = True
        args.front_end_root = str(base)
        import utils.extra_config  # noqa: F401, I001  as main.py does, before nodes
        import execution
        import server

        nodes: Any = importlib.import_module("nodes")

        asyncio.run(nodes.init_extra_nodes(init_custom_nodes=True, init_api_nodes=False))
        self._execution = execution
        prompt_server = server.PromptServer(asyncio.new_event_loop())
        self._executor = execution.PromptExecutor(prompt_server, cache_args={"lru": 0, "ram": 0})

    def run(self, graph: Graph) -> None:
        name = str(uuid.uuid4())
        valid, error, outputs, _ = asyncio.run(self._execution.validate_prompt(name, graph, None))
        if not valid:
            raise DevError(f"ComfyUI refused the graph: {error}")
        self._executor.execute(graph, name, {}, outputs)
        for event, data in self._executor.status_messages:
            if event == "execution_error":
                raise DevError(data["exception_message"])

    def forget(self) -> None:
        """Drop the outputs of earlier graphs."""
        self._executor.reset()


@contextmanager
def in_process_host(folder: Path) -> Iterator[InProcessHost]:
    with temporary_base(folder, ROOT) as base:
        yield InProcessHost(base)


def pack_module(name: str) -> ModuleType:
    """A module below the pack's `nodes`, such as "host.schedule", as ComfyUI loaded it."""
    (found,) = (module for key, module in sys.modules.items() if key.endswith(f".nodes.{name}"))
    return found


@contextmanager
def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> Iterator[None]:
    """Inside, `owner.name` is what `make` makes of it."""
    own = vars(owner).get(name)
    setattr(owner, name, make(getattr(owner, name)))
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
