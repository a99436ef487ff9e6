"""Keys and values of references that outlive their run: the next seed need not ask again."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..host.comfy_types import Model
from ..host.unet_geometry import Location


class LayerKeys(NamedTuple):
    """What one layer said of a reference.

    Attributes:
        key, value: (1, R, H*K), without the positions outside of the mask.
        weights: (R,) in 0..1 on the CPU, how much of each position is the subject.
        size: h, w of the layer in the pass.
    """

    key: torch.Tensor
    value: torch.Tensor
    weights: torch.Tensor
    size: tuple[int, int]

    def to(self, device: torch.device) -> LayerKeys:
        return self._replace(key=self.key.to(device), value=self.value.to(device))

    @property
    def num_bytes(self) -> int:
        return sum(states.numel() * states.element_size() for states in (self.key, self.value))


Layers = Mapping[Location, LayerKeys]


@dataclass(kw_only=True, eq=False)
class _Kept:
    layers: Layers
    num_bytes: int
    last_run: int


class KeyStore:
    """Whole passes, in main memory, up to a number of bytes.

    It hangs on one MODEL and the clones of it, and holds what the latest of them computed: another
    clone may have other weights or patches. What two runs in a row did not use makes place where
    there is none; otherwise, what came first stays, as the next run begins with it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: dict[Hashable, _Kept] = {}
        self._owner: tuple[weakref.ref[Any], Any] | None = None
        self._run = 0

    @property
    def num_bytes(self) -> int:
        return sum(kept.num_bytes for kept in self._kept.values())

    def begin_run(self, model: Model) -> None:
        """Of the MODEL that samples now."""
        with self._lock:
            self._run += 1
            owner = (weakref.ref(model), model.patches_uuid)
            if self._owner != owner:
                self._kept.clear()
            self._owner = owner

    def find(self, name: Hashable, device: torch.device) -> dict[Location, LayerKeys] | None:
        """What was kept under this name, on the device; None if nothing was."""
        with self._lock:
            kept = self._kept.get(name)
            if kept is None:
                return None
            kept.last_run = self._run
            return {location: layer.to(device) for location, layer in kept.layers.items()}

    def keep(self, name: Hashable, layers: Layers) -> None:
        """Keep a complete pass, if there is room."""
        num_bytes = sum(layer.num_bytes for layer in layers.values())
        with self._lock:
            if self.num_bytes + num_bytes > self._max_bytes:
                self._kept = {
                    key: kept for key, kept in self._kept.items() if kept.last_run >= self._run - 1
                }
            if self.num_bytes + num_bytes <= self._max_bytes:
                moved = {at: layer.to(torch.device("cpu")) for at, layer in layers.items()}
                self._kept[name] = _Kept(layers=moved, num_bytes=num_bytes, last_run=self._run)

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._owner = None
