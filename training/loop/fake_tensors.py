"""PyTorch's fake tensors, which have shapes and no values: what runs on them is only counted."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

ALLOCATION_UNIT = 512  # bytes; CUDA's allocator rounds up to it


@contextlib.contextmanager
def nothing_computed() -> Iterator[None]:
    """Every tensor made under this is a fake one, and a batch's masks are taken to be full."""
    with FakeTensorMode(), FullBatchValues():  # type: ignore[no-untyped-call]
        yield


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(
    gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


# PyTorch counts the fused attention of CUDA alone; a CPU, where this runs, calls another one.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and convolutions while ``run`` runs."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        run()
    return int(counter.get_total_flops())


class FullBatchValues(TorchDispatchMode):
    """Answers what fake tensors cannot: values that shapes and branches depend on.

    A mask's ``nonzero`` finds every element, as in a batch without empty slots; a condition read
    from a tensor is false, as where nothing is out of range.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0
        if func is torch.ops.aten.nonzero.default:
            (mask,) = args
            return mask.new_empty((mask.numel(), mask.ndim), dtype=torch.int64)
        return func(*args, **(kwargs or {}))


class AllocationMeter(TorchDispatchMode):
    """Counts the bytes of all tensors that live, made by any operation under it.

    Attributes:
        live, peak: bytes now, and the most there ever were.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def note(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = -(-storage.nbytes() // ALLOCATION_UNIT) * ALLOCATION_UNIT
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_iter(output):
            if isinstance(tensor, Tensor):
                self.note(tensor)
        return output


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """What CUDA's autocast does with a function of its float32 list."""

    def widened(value: Any) -> Any:
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.float() if floating else value

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return function(*map(widened, args), **{k: widened(v) for k, v in kwargs.items()})

    return wrapped


@contextlib.contextmanager
def cuda_autocast_rules() -> Iterator[None]:
    """CPU autocast keeps norms and softmax in bf16; CUDA's, which is counted here, does not."""
    functional = torch.nn.functional
    places: Iterable[tuple[Any, str]] = (
        (functional, "layer_norm"), (functional, "group_norm"), (functional, "softmax"),
        (torch, "softmax"),
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        for owner, name in places:
            stack.enter_context(patch.object(owner, name, in_float32(getattr(owner, name))))
        yield
