"""What a node is found by besides its name, where this ComfyUI has such words."""

from __future__ import annotations

import inspect

from comfy_api.latest import io


def search_words(*words: str) -> dict[str, list[str]]:
    """For a Schema, as keywords: older versions of ComfyUI refuse those that they do not know."""
    known = inspect.signature(io.Schema).parameters
    return {"search_aliases": list(words)} if "search_aliases" in known else {}
