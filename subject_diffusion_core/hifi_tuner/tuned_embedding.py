# Shapes: n tuned vectors, d their width, T sets for the steps of a schedule.
"""A tuned subject embedding: what is learned of one subject."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import require_shape

LAST_TIMESTEP = 999.0


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedEmbedding:
    """c_s, and c_s^t for every step of a schedule, of HiFi Tuner.

    Attributes:
        vectors: (n, d) float32.
        step_vectors: (T, n, d) float32, from the noisiest step on; None: tuned as a whole only.
        step_timesteps: the T timesteps, falling, 0..999.
        label: the word that stands for the subject in prompts, such as "dog".
        provenance: of what and how it was tuned, as JSON takes it.
    """

    vectors: torch.Tensor
    step_vectors: torch.Tensor | None
    step_timesteps: tuple[float, ...] = ()
    label: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_shape("vectors", self.vectors, ("n", "d"), "Tune the embedding again")
        shape = (len(self.step_timesteps), *self.vectors.shape)
        if self.step_vectors is not None:
            require_shape("step_vectors", self.step_vectors, shape, "Tune the embedding again")
        falls = all(later < earlier for earlier, later in itertools.pairwise(self.step_timesteps))
        if not falls or (self.step_vectors is None) != (not self.step_timesteps):
            raise ValueError(
                "step_timesteps: expected a falling timestep for each set, got "
                f"{len(self.step_timesteps)}. Tune the embedding again."
            )


def step_ranges(step_timesteps: tuple[float, ...]) -> list[tuple[float, float]]:
    """(start, end) of each set in 0..1 of the sampling, so that a step takes the nearest set.

    Limits lie a quarter of a timestep above a whole one: ranges of ComfyUI include both of their
    ends, and no scheduler's step falls there, so that no step takes two sets.

    >>> [(round(start, 3), round(end, 3)) for start, end in step_ranges((900.0, 500.0, 100.0))]
    [(0.0, 0.299), (0.299, 0.699), (0.699, 1.0)]
    """
    limits = [
        1.0 - (math.floor((earlier + later) / 2) + 0.25) / LAST_TIMESTEP
        for earlier, later in itertools.pairwise(step_timesteps)
    ]
    return list(zip([0.0, *limits], [*limits, 1.0], strict=True))
