"""Gradients where the memory of the device is short: what they need waits outside of it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import comfy.model_management
import torch
from torch import nn

Result = TypeVar("Result")
Kept = torch.Tensor | tuple[torch.device, torch.Tensor]


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


@contextlib.contextmanager
def activations_outside() -> Iterator[None]:
    """Inside, what a gradient needs is kept on the CPU; weights stay where they are."""

    def put(tensor: torch.Tensor) -> Kept:
        if isinstance(tensor, nn.Parameter):
            return tensor
        return tensor.device, tensor.to("cpu")

    def get(kept: Kept) -> torch.Tensor:
        return kept if isinstance(kept, torch.Tensor) else kept[1].to(kept[0])

    with torch.autograd.graph.saved_tensors_hooks(put, get):
        yield
