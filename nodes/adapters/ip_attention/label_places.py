# Shapes: B samples of a part of a UNet call, Q latent cells.
"""Automatic layout: where the model looks for a subject's label, in one layer of one run."""

from __future__ import annotations

import torch

from ....subject_diffusion_core.ip_attention import looked_at_cells

# a subject without a box acts everywhere in so many calls of the UNet, then where its label is
CALLS_EVERYWHERE = 5


class LabelPlace:
    """The running mean of the text attention to a label; it hangs on the run only."""

    def __init__(self) -> None:
        self._total: torch.Tensor | None = None
        self._calls = 0

    def add(self, attention: torch.Tensor) -> None:
        """(B, Q) of one more call."""
        self._total = attention if self._total is None else self._total + attention
        self._calls += 1

    def cells(self) -> torch.Tensor | None:
        """(B, Q) bool; None in the first calls, and where the prompt does not name the subject."""
        if self._total is None or self._calls <= CALLS_EVERYWHERE:
            return None
        return looked_at_cells(self._total / self._calls)
