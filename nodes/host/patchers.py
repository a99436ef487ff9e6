"""Models of our own under ComfyUI's memory management."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import comfy.model_patcher
import comfy.ops
import torch
from torch import nn

from .comfy_types import Model, PatcherOf

HeldModule = TypeVar("HeldModule", bound=nn.Module)
COMPUTED = (torch.float32, torch.float16, torch.bfloat16)


def wrap_in_patcher(
    model: HeldModule,
    load_device: torch.device,
    offload_device: torch.device,
    disable_dynamic: bool = False,
) -> PatcherOf[HeldModule]:
    """A ModelPatcher around the model, of the class that this ComfyUI uses for its own models.

    Newer versions choose between two classes when they start, so it is looked up at every call;
    with `disable_dynamic` it is the one that lets weights be switched in mid-run.
    """
    patcher_class = comfy.model_patcher.ModelPatcher
    if not disable_dynamic:
        patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", patcher_class)
    patcher: PatcherOf[HeldModule] = patcher_class(
        model, load_device=load_device, offload_device=offload_device
    )
    return patcher


class ModulePatchers(Generic[HeldModule]):
    """A method's modules, built once for each dtype and device, however many MODELs use them.

    Args:
        make: builds them for a dtype, in which they compute.
    """

    def __init__(self, make: Callable[[torch.dtype], HeldModule]) -> None:
        self._make = make
        self._patchers: dict[
            tuple[torch.dtype, torch.device, torch.device], PatcherOf[HeldModule]
        ] = {}

    def for_model(self, model: Model) -> PatcherOf[HeldModule]:
        """The modules inside a ModelPatcher that loads and unloads together with the MODEL."""
        # of this clone: the model itself has what the clone that sampled last wants of it
        dtype = model.get_model_object("manual_cast_dtype") or model.model_dtype()
        if dtype not in COMPUTED:  # weights of 8 bits and less are cast before they are used
            dtype = torch.float16
        key = (dtype, model.load_device, model.offload_device)
        if key not in self._patchers:
            modules = self._make(dtype).to(model.offload_device)
            self._patchers[key] = wrap_in_patcher(modules, model.load_device, model.offload_device)
        return self._patchers[key]


def with_manual_cast(module: HeldModule) -> HeldModule:
    """Exchange linear layers and layer norms for ComfyUI's, which cast weights to the input."""
    for name, child in module.named_children():
        replacement = _manual_cast_layer(child)
        if replacement is None:
            with_manual_cast(child)
            continue
        replacement.weight, replacement.bias = child.weight, child.bias
        setattr(module, name, replacement.eval())
    return module


def _manual_cast_layer(layer: nn.Module) -> nn.Module | None:
    operations = comfy.ops.manual_cast
    with torch.device("meta"):
        if type(layer) is nn.Linear:
            linear: nn.Module = operations.Linear(
                layer.in_features, layer.out_features, bias=layer.bias is not None
            )
            return linear
        if type(layer) is nn.LayerNorm:
            norm: nn.Module = operations.LayerNorm(layer.normalized_shape, eps=layer.eps)
            return norm
    return None
