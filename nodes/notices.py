"""Warnings in the log and, where ComfyUI can, as text on the node itself."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any


def show_notices(notices: Sequence[str], hidden: Any | None) -> None:
    """Warn of things that will not work as a user may expect.

    Args:
        notices: one sentence or two each.
        hidden: the node's hidden inputs with its `unique_id`; None outside of a graph.
    """
    for notice in notices:
        logging.warning("%s", notice)
    # not imported: in a process without a server there is nobody to show it to
    server_module = sys.modules.get("server")
    server = getattr(getattr(server_module, "PromptServer", None), "instance", None)
    node_id = getattr(hidden, "unique_id", None)
    if notices and node_id is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text("\n".join(notices), node_id)
