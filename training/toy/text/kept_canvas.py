"""What keeps a canvas, and the heads that look at it, while the base is trained.

Training along changes the text encoder, which loses the canvas, and queries, which lose their
places, unless the loss holds both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .canvas import CanvasLesson
from .local_heads import Heads, query_words

FIRST = 100_000  # of a step; the lesson's own steps are before the first


class KeptCanvas:
    """The errors of a lesson's captions, read by heads as the lesson left them, and of places.

    ``captions`` of a step.
    """

    def __init__(
        self,
        lesson: CanvasLesson,
        heads: Heads,
        model: Any,
        captions: int,
        device: torch.device,
    ) -> None:
        self.lesson, self.text_encoder, self.device = lesson, model.text_encoder, device
        lesson.batch_size = captions
        lesson.heads.requires_grad_(False).to(device)
        self.places = PlaceWatch(model.unet, heads, lesson.canvas.cell)

    def loss(self, step: int) -> Tensor:
        """What a step's loss gets, after the UNet has been asked."""
        canvas = self.lesson.canvas
        loss = torch.zeros(())
        if canvas.place_weight:
            loss = loss + canvas.place_weight * self.places.loss()
        if canvas.lesson_weight:
            captions = self.lesson.batch(FIRST + step).to(self.device)
            errors = self.lesson.errors(self.lesson.read(self.text_encoder, captions), captions)
            loss = loss + canvas.lesson_weight * torch.stack(errors).sum()
        return loss


class PlaceWatch:
    """How far the queries of heads that look at the canvas are from telling their places."""

    def __init__(self, unet: nn.Module, heads: Heads, cell: int) -> None:
        self.heads, self.cell = heads, cell
        self.widths: dict[str, int] = {}
        self.queries: dict[str, Tensor] = {}
        for name in heads:
            layer: Any = unet.get_submodule(name)
            self.widths[name] = layer.to_q.weight.shape[0] // layer.heads
            layer.to_q.register_forward_hook(self.keeper(name))

    def keeper(self, name: str) -> Any:
        """A hook that keeps what a layer asks."""
        return lambda _layer, _inputs, asked: self.queries.__setitem__(name, asked)

    def loss(self) -> Tensor:
        """Squared error of row and column, as a share of their own squares, mean over heads."""
        errors = []
        for name, asked in self.queries.items():
            width = self.widths[name]
            wanted = query_words(round(asked.shape[1] ** 0.5), self.cell)[:, :2].to(asked)
            for head in self.heads[name]:
                told = asked[..., head * width : head * width + 2] / width**0.5
                errors.append((told - wanted).square().mean() / wanted.square().mean())
        return torch.stack(errors).mean()
