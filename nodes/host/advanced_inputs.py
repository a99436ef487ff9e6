"""Inputs that a node shows when asked for, where this ComfyUI can hide any."""

from __future__ import annotations

import inspect
from typing import Any

from comfy_api.latest import io


def advanced() -> dict[str, Any]:
    """For an Input, as keywords: older versions of ComfyUI refuse those that they do not know."""
    return {"advanced": True} if "advanced" in inspect.signature(io.Input).parameters else {}
