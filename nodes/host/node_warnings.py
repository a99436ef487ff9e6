"""Sentences on the node itself that is being executed; warnings also in the log."""

from __future__ import annotations

import html
import logging
from collections.abc import Sequence

from comfy_execution.utils import get_executing_context

from .prompt_server import prompt_server


def show_warnings(sentences: Sequence[str]) -> None:
    """Log the sentences and show them on the node that runs, in the page that queued it."""
    for sentence in sentences:
        logging.warning("%s", sentence)
    show_text(sentences)


def show_text(sentences: Sequence[str]) -> None:
    """Show the sentences on the node that runs, in the page that queued it."""
    context = get_executing_context()
    if not sentences or context is None:
        return
    server = prompt_server()
    if server is None:
        return
    # the page shows it as HTML, and labels are other people's text
    text = html.escape("\n".join(sentences), quote=False)
    server.send_progress_text(text, context.node_id, server.client_id)
