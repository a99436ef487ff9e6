"""Weights stored in eight bits: int8 with a scale per output channel."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..errors import CheckpointError
from .header import TensorInfo

SCALE_SUFFIX = ".scale"
MIN_ELEMENTS = 1024


def quantize(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Large tensors to int8 with a companion `<name>.scale` per output channel: value = int8 *
    scale.

    >>> stored = quantize({"w": torch.linspace(-1, 1, 2048).reshape(2, 1024)})
    >>> stored["w"].dtype, stored["w.scale"].shape
    (torch.int8, torch.Size([2]))
    """
    stored: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or tensor.numel() < MIN_ELEMENTS:
            stored[name] = tensor
            continue
        rows = tensor.float().flatten(1)
        scale = (rows.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
        stored[name] = (rows / scale[:, None]).round().to(torch.int8).reshape(tensor.shape)
        stored[name + SCALE_SUFFIX] = scale
    return stored


def dequantize(tensors: Mapping[str, torch.Tensor], source: str) -> dict[str, torch.Tensor]:
    """Undo `quantize`: int8 becomes float32, everything else stays as it is.

    Raises:
        CheckpointError: an int8 tensor has no scale, or one that does not fit; `source` names the
            file.
    """
    restored: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            restored[name] = tensor.float() * _scale_of(name, tensors, source)
        elif not _is_scale(name, tensors):
            restored[name] = tensor
    return restored


def plain_infos(tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """What a header says of the tensors that `dequantize` will give."""
    scales = {name + SCALE_SUFFIX for name, info in tensors.items() if info.dtype == "I8"}
    return {name: info for name, info in tensors.items() if name not in scales}


def _is_scale(name: str, tensors: Mapping[str, torch.Tensor]) -> bool:
    weight = tensors.get(name.removesuffix(SCALE_SUFFIX))
    return name.endswith(SCALE_SUFFIX) and weight is not None and weight.dtype == torch.int8


def _scale_of(name: str, tensors: Mapping[str, torch.Tensor], source: str) -> torch.Tensor:
    """The scale of an int8 tensor (C, ...), as (C, 1, ...)."""
    weight, scale = tensors[name], tensors.get(name + SCALE_SUFFIX)
    if scale is None or scale.shape != weight.shape[:1]:
        got = "none" if scale is None else f"shape {tuple(scale.shape)}"
        raise CheckpointError(
            f"{source}: expected '{name}{SCALE_SUFFIX}' of shape {tuple(weight.shape[:1])} beside "
            f"int8 weights, got {got}. Export the file again."
        )
    return scale.float().reshape(-1, *[1] * (weight.ndim - 1))
