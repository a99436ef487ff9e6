"""The precomputed tensors of a sample: only what is asked for is read, and checked.

    KEY.features.safetensors   latents (c, h, w), patch_embeds (S, V, P, C), image_embeds (S, V, E)

# Shapes: V variants of a reference, S entities, P patch tokens, c latent channels, h x w latents.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .bad_sample import BadSample

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}
_LENGTH, _LONGEST_HEADER = 8, 100_000


class Features:
    """A safetensors file somewhere inside a shard.

    Args:
        read: gives ``size`` bytes from ``offset`` of the file.
    """

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read

    @cached_property
    def _header(self) -> dict[str, Any]:
        length = int.from_bytes(self._read(0, _LENGTH), "little")
        if not 0 < length <= _LONGEST_HEADER:
            raise BadSample("unreadable features")
        try:
            return {"": _LENGTH + length, **json.loads(self._read(_LENGTH, length))}
        except (ValueError, RecursionError) as error:
            raise BadSample("unreadable features") from error

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape; () where there is no such tensor."""
        try:
            return tuple(int(size) for size in self._header[name]["shape"])
        except KeyError:
            return ()
        except (TypeError, ValueError) as error:
            raise BadSample("unreadable features") from error

    def tensor(self, name: str, *index: int) -> Tensor:
        """The part of a tensor at leading indices, as float32; BadSample where it is not there, cut
        short, or not finite."""
        import torch  # here, as what writes shards and shows them needs no tensors

        shape = self.shape(name)
        if len(shape) < len(index) or any(i >= n for i, n in zip(index, shape, strict=False)):
            raise BadSample(f"{name} missing")
        rest = shape[len(index) :]
        try:
            entry = self._header[name]
            dtype: torch.dtype = getattr(torch, DTYPES[entry["dtype"]])
            start = self._header[""] + int(entry["data_offsets"][0])
        except (KeyError, TypeError, ValueError) as error:
            raise BadSample("unreadable features") from error
        place = 0
        for i, n in zip(index, shape, strict=False):
            place = place * n + i
        count = math.prod(rest)
        size = count * dtype.itemsize
        content = self._read(start + place * size, size)
        if len(content) != size or count == 0:
            raise BadSample("features cut short")
        tensor = torch.frombuffer(bytearray(content), dtype=dtype).reshape(rest).float()
        if not bool(tensor.sum().isfinite()):  # one number tells, in a tenth of the time
            raise BadSample("features are not finite")
        return tensor
