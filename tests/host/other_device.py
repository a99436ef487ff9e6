"""Tensors of another device on a machine that has none: as ComfyUI's --gpu-only makes them."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

# What may read one device and write to another.
COPIES = ("_to_copy", "copy_", "index_put_", "_index_put_impl_")


class GpuTensor(torch.Tensor):
    """Says that it lies elsewhere, computes on the CPU, and, as a GPU does, refuses to compute with
    tensors that lie on the CPU, single numbers excepted."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> GpuTensor:
        made: GpuTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",  # a name for "elsewhere" that every machine has
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        keywords = dict(kwargs or {})
        name = function.overloadpacket.__name__
        given, _ = tree_flatten((args, keywords))
        strangers = [x for x in given if type(x) is torch.Tensor and x.ndim > 0]
        if strangers and name not in COPIES:
            raise RuntimeError(f"{function}: expected all tensors to be on the same device")
        to_cpu = keywords.get("device") is not None and keywords["device"].type == "cpu"
        if keywords.get("device") is not None:
            keywords["device"] = torch.device("cpu")
        result = function(*tree_map(_held, args), **tree_map(_held, keywords))
        if name == "copy_":
            return args[0]
        return result if to_cpu else tree_map(_on_gpu, result)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, GpuTensor) else value


def _on_gpu(value: Any) -> Any:
    return GpuTensor(value) if type(value) is torch.Tensor else value
