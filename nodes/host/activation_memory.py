"""Gradients where the memory of the device is short: what they need waits outside of it."""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import comfy.model_management
import torch
from torch import nn

Result = TypeVar("Result")
_IS_OUTSIDE = contextvars.ContextVar("activations outside", default=False)


class ActivationMemory:
    """Runs computations with gradients; after the first that did not fit, activations are kept in
    the computer's memory, which takes longer."""

    def __init__(self) -> None:
        self._is_short = False

    def run(self, compute: Callable[[], Result]) -> Result:
        """`compute()`; where it does not fit, once more from its beginning."""
        if not self._is_short:
            try:
                return compute()
            except torch.cuda.OutOfMemoryError:
                self._is_short = True
            # outside of the handler: the error held on to what it had computed
            comfy.model_management.soft_empty_cache()
            logging.warning(
                "Not enough memory for gradients: activations are kept outside of the GPU, which "
                "takes longer."
            )
        with activations_outside():
            return compute()


class Kept:
    """What stands for a tensor until the gradient needs it."""

    def restore(self) -> torch.Tensor:
        raise NotImplementedError


class Here(Kept):
    """The tensor itself."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def restore(self) -> torch.Tensor:
        return self._tensor


class _Outside(Kept):
    def __init__(self, tensor: torch.Tensor) -> None:
        self._device, self._tensor = tensor.device, tensor.to("cpu")

    def restore(self) -> torch.Tensor:
        return self._tensor.to(self._device)


def restored(stands: Kept) -> torch.Tensor:
    return stands.restore()


def kept(tensor: torch.Tensor) -> Kept:
    """The tensor where it is to wait; weights stay where they are."""
    if not _IS_OUTSIDE.get() or isinstance(tensor, nn.Parameter):
        return Here(tensor.detach())  # itself would hold on to the graph that holds it
    return _Outside(tensor)


@contextlib.contextmanager
def activations_outside() -> Iterator[None]:
    """Inside, what a gradient needs is kept on the CPU."""
    token = _IS_OUTSIDE.set(True)
    try:
        with torch.autograd.graph.saved_tensors_hooks(kept, restored):
            yield
    finally:
        _IS_OUTSIDE.reset(token)
