"""What one sampling run computes once and then shares between its steps."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np


class Generation:
    """One sampling run: its latent size, when the adapter is on, and the tables that no step
    changes.

    It hangs on the conditionings of the run only, so it is gone when the run is over.

    Args:
        latent_size: height and width of the whole latent.
        start_sigma, end_sigma: the adapter is on while start_sigma >= sigma > end_sigma.
    """

    def __init__(
        self,
        latent_size: tuple[int, int],
        start_sigma: float = math.inf,
        end_sigma: float = 0.0,
    ) -> None:
        self.latent_size = latent_size
        self.start_sigma = start_sigma
        self.end_sigma = end_sigma
        self._tables: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def is_active(self, sigma: float) -> bool:
        return self.start_sigma >= sigma > self.end_sigma

    def area_to_frame(self, area: Sequence[int]) -> tuple[float, float, float, float]:
        """(height, width, y, x) in latent cells -> x1, y1, x2, y2 in 0..1 of the whole picture."""
        area_height, area_width, y, x = area
        height, width = self.latent_size
        return (x / width, y / height, (x + area_width) / width, (y + area_height) / height)

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """`make()` at the first call with this key, its result later; safe between threads."""
        with self._lock:
            if key not in self._tables:
                self._tables[key] = make()
            return self._tables[key]

    def forget(self) -> None:
        """Drop the tables; a cancelled run may leave its conditionings on the guider."""
        with self._lock:
            self._tables.clear()


def next_sigma_above(sigma: float) -> float:
    """The next float32: ComfyUI compares sigmas as float32, and its ranges include both ends."""
    return float(np.nextafter(np.float32(sigma), np.float32(np.inf)))
