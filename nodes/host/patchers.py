"""Models of our own under ComfyUI's memory management."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import torch
from torch import nn


def wrap_in_patcher(
    model: nn.Module, load_device: torch.device, offload_device: torch.device
) -> Any:
    """A ModelPatcher around the model, of the class that this ComfyUI uses for its own models.

    Newer versions choose between two classes when they start, so it is looked up at every call.
    """
    patcher_class = getattr(
        comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher
    )
    return patcher_class(model, load_device=load_device, offload_device=offload_device)
