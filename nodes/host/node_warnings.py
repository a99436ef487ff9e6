"""Sentences on the node itself that is being executed; warnings also in the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from comfy_execution.utils import get_executing_context

from ...subject_diffusion_core.errors import printable
from .prompt_server import prompt_server

EVENT = "subject_diffusion.sentences"  # as in web/node_warnings.js


def show_warnings(sentences: Sequence[str]) -> None:
    """Log the sentences and show them on the node that runs, in the page that queued it."""
    for sentence in sentences:
        logging.warning("%s", printable(sentence))
    show_text(sentences)


def show_text(sentences: Sequence[str]) -> None:
    """Show the sentences on the node that runs, in the page that queued it."""
    context = get_executing_context()
    if not sentences or context is None:
        return
    server = prompt_server()
    if server is None:
        return
    told = {"node": context.node_id, "sentences": [printable(one) for one in sentences]}
    server.send_sync(EVENT, told, server.client_id)
