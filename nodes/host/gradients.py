"""Gradients inside ComfyUI, which runs nodes in inference mode, to what a model is told: never to
its weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import comfy.ldm.modules.attention
import comfy.model_patcher
import torch
from torch import nn

from .attention_terms import OVERRIDE
from .cast_weights import PLAIN_TYPES, cast_again
from .comfy_types import Options

AFTER_SKIP = "input_block_patch_after_skip"


@contextlib.contextmanager
def gradients_through(*modules: nn.Module) -> Iterator[None]:
    """Inside, operations record gradients and run through the modules' weights.

    ComfyUI's weights are inference tensors, which no gradient passes, and ask for gradients of
    their own. They are exchanged for plain tensors in the same memory; what is cast of them for a
    call is not kept. Afterwards, also after an error, the same objects are back.
    """
    exchanged: list[tuple[dict[str, Any], str, torch.Tensor]] = []
    with torch.inference_mode(False), torch.enable_grad():
        try:
            _exchange_tensors(modules, exchanged)
            with cast_again(modules):
                yield
        finally:
            for holder, name, tensor in reversed(exchanged):
                holder[name] = tensor


def networks_of(inner_model: Any) -> list[nn.Module]:
    """A run's model, and the networks that packs have put beside it."""
    beside = inner_model.current_patcher.get_nested_additional_models()
    return [inner_model, *(patcher.model for patcher in beside)]


def _exchange_tensors(
    modules: Sequence[nn.Module], exchanged: list[tuple[dict[str, Any], str, torch.Tensor]]
) -> None:
    """Put plain tensors in place of all weights; note what stood where."""
    plain: dict[int, torch.Tensor] = {}
    for part in (part for module in modules for part in module.modules()):
        holders: tuple[dict[str, Any], ...] = (part._parameters, part._buffers)
        for holder in holders:
            for name, tensor in holder.items():
                # other kinds of tensors, as quantised ones, are cast before they are used
                if tensor is None or type(tensor) not in PLAIN_TYPES:
                    continue
                if id(tensor) not in plain:
                    plain[id(tensor)] = _plain_view(tensor)
                exchanged.append((holder, name, tensor))
                holder[name] = plain[id(tensor)]


def _plain_view(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers in the same memory, as a tensor that gradients pass and that has none."""
    view = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    view.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    return nn.Parameter(view, requires_grad=False) if isinstance(tensor, nn.Parameter) else view


def differentiable_options(model_options: Options) -> Options:
    """A copy of a run's options with which the model has a gradient.

    Attention is PyTorch's own: others that ComfyUI may use have no gradient, or none when memory is
    short. ControlNets are added in place to what the UNet hands over to its way up, so its way down
    goes on with copies.
    """
    options: Options = comfy.model_patcher.create_model_options_clone(model_options)
    transformer_options = dict(options.get("transformer_options", {}))
    transformer_options[OVERRIDE] = _differentiable_attention
    patches = dict(transformer_options.get("patches", {}))
    patches[AFTER_SKIP] = [*patches.get(AFTER_SKIP, []), _copied]
    transformer_options["patches"] = patches
    options["transformer_options"] = transformer_options
    return options


def _copied(hidden_states: torch.Tensor, _options: Options) -> torch.Tensor:
    return hidden_states.clone()


def _differentiable_attention(
    function: Callable[..., torch.Tensor],
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *args: Any,
    **kwargs: Any,
) -> torch.Tensor:
    """ComfyUI calls this in place of `function`; models that ask for float32 get it."""
    attention = comfy.ldm.modules.attention
    wanted = attention.get_attn_precision(kwargs.get("attn_precision"), query.dtype)
    dtype = query.dtype if wanted is None else wanted
    out: torch.Tensor = attention.attention_pytorch(
        query.to(dtype), key.to(dtype), value.to(dtype), *args, **kwargs
    )
    return out.to(query.dtype)
