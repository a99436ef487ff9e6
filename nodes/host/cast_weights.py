"""Weights that ComfyUI casts for a call are cast once more for the gradient, not kept until then.

A layer whose weight is stored in another precision, in the computer's memory or without its LoRA
makes what it computes with for each call. Autograd would keep that copy of every layer: the whole
model in the precision that it computes in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from .activation_memory import Here, Kept, kept, restored

Forward = Callable[..., torch.Tensor]
PLAIN_TYPES = (torch.Tensor, nn.Parameter)


@contextlib.contextmanager
def cast_again(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, no layer of the modules has its cast weight kept; afterwards, also after an error,
    their `forward` is the same as before."""
    wrapped: list[tuple[dict[str, Any], Forward | None]] = []
    try:
        for layer in _layers_of(modules):
            attributes = vars(layer)
            wrapped.append((attributes, attributes.get("forward")))
            attributes["forward"] = _CastingForward(layer, layer.forward)
        yield
    finally:
        for attributes, before in reversed(wrapped):
            if before is None:
                attributes.pop("forward", None)
            else:
                attributes["forward"] = before


def _layers_of(modules: Sequence[nn.Module]) -> Iterator[nn.Module]:
    """Each layer that casts, once. Of normalisations, whose weights are small, none."""
    for layer in dict.fromkeys(layer for module in modules for layer in module.modules()):
        weight = layer._parameters.get("weight")
        if hasattr(layer, "comfy_cast_weights") and weight is not None and weight.ndim > 1:
            yield layer


class _CastingForward:
    """A layer's forward, which has its cast weight made again for the gradient."""

    def __init__(self, layer: nn.Module, forward: Forward) -> None:
        self._layer = layer
        self._forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        x = args[0] if args else None
        if x is None or x.ndim < 2 or not x.requires_grad or not torch.is_grad_enabled():
            return self._forward(*args, **kwargs)
        with torch.autograd.graph.saved_tensors_hooks(partial(self._put, x), restored):
            return self._forward(*args, **kwargs)

    def _put(self, x: torch.Tensor, tensor: torch.Tensor) -> Kept:
        if self._is_weight(tensor) and not _same_memory(tensor, x):
            if _same_memory(tensor, self._weight):
                return Here(tensor)
            return _CastWeight(self, x, tensor)
        return kept(tensor)

    @property
    def _weight(self) -> torch.Tensor:
        return cast(torch.Tensor, self._layer.weight)

    def _is_weight(self, tensor: torch.Tensor) -> bool:
        """Whether the tensor has the size and the shape of the layer's weight, or its shape turned
        over. Nothing else that a layer keeps has, but perhaps its input."""
        shape = self._weight.shape
        return (
            tensor.shape in (shape, shape[::-1])
            and tensor.untyped_storage().nbytes() == shape.numel() * tensor.element_size()
        )

    def weight_for(self, x: torch.Tensor) -> torch.Tensor:
        """What the layer makes of its weight for an input such as x (0, ...), which it is run
        with."""
        found: list[torch.Tensor] = []

        def note(tensor: torch.Tensor) -> torch.Tensor:
            if self._is_weight(tensor):
                found.append(tensor)
            return tensor.detach()

        with (
            torch.enable_grad(),
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        ):
            self._forward(x.requires_grad_())
        if len(found) != 1:
            raise RuntimeError(
                f"model: expected a layer ({type(self._layer).__name__}) that casts its weight "
                f"again for the gradient, got {len(found)} weights of it. Another pack has changed "
                "the layer: take its node away."
            )
        return found[0]


def _same_memory(tensor: torch.Tensor, other: torch.Tensor) -> bool:
    """Quantised tensors, of a class of their own, have no memory that can be compared."""
    if type(other) not in PLAIN_TYPES:
        return False
    return tensor.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


class _CastWeight(Kept):
    """What it takes to make a saved weight once more."""

    def __init__(self, forward: _CastingForward, x: torch.Tensor, weight: torch.Tensor) -> None:
        self._forward = forward
        self._like = x.detach()[:0].clone()
        self._view = (weight.shape, weight.stride(), weight.storage_offset())

    def restore(self) -> torch.Tensor:
        return self._forward.weight_for(self._like.clone()).detach().as_strided(*self._view)
