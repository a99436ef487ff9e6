"""The common loop's loss, which also keeps what a canvas's lesson taught."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...dataset.batches import MicroBatch
from ...methods.objective import Objective
from .kept_canvas import KeptCanvas
from .lessons import Start


class TextObjective(Objective):
    """The loop's; after a canvas's lesson with its errors, for as many captions as a step has
    pictures, and those of the places of the heads that look at it."""

    def __init__(self, start: Start, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.kept: KeptCanvas | None = None
        if start.lesson is not None and start.lesson.canvas.is_kept:
            captions = self.recipe.global_batch_size
            self.kept = KeptCanvas(start.lesson, start.heads, self.model, captions, self.device)

    def __call__(self, batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """Mean squared error, with what keeps the canvas, and no map loss."""
        mse, maps = super().__call__(batch)
        if self.kept is not None:
            mse = mse + self.kept.loss(batch.positions[0] // self.recipe.global_batch_size)
        return mse, maps
