"""ComfyUI's web server, where this process has one."""

from __future__ import annotations

import sys
from typing import Any


def prompt_server() -> Any | None:
    """The running `PromptServer`; None in a process that uses ComfyUI's modules without one."""
    # not imported: in a process without a server there is nobody to talk to
    server_module = sys.modules.get("server")
    return getattr(getattr(server_module, "PromptServer", None), "instance", None)
