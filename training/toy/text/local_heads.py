"""Heads of the UNet's text attention that look, from a place, at the canvas's cell of that place.

# Shapes: M pairs, F feature width, L tokens (77), D text width, d width of a head.
A UNet's features tell roughly where they are (at half the latent's size .7 to .95 of a row's
variance, .55 to .75 of a column's), since convolutions see the picture's border. Least squares make
that the query's words and what the canvas says of its cells the key's, so that a head's logits are
-|place - cell|^2 / (2 spread^2). What such a head adds is zero at first. Training loses the place
again, unless it is told to keep it (kept_canvas.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...methods.objective import noise_scheduler
from ...networks.text import encode_text
from ..data.pictures import SIDE
from .canvas import FIRST, TOKENS, CanvasLesson, cell_places, reading_directions
from .drawing import BATCH, real_latents, seeded
from .questions import Question

UNIT = 0.8  # of queries, in cells
FAR = 12.0  # logits below a cell's, of tokens that are none
TIMESTEPS = (150, 400, 600, 800, 950)
Heads = dict[str, list[int]]
QUERY_RIDGE, KEY_RIDGE = 1e-4, 1e-5


def least_squares(inputs: Tensor, wanted: Tensor, ridge: float) -> Tensor:
    """(F, n) map of inputs (M, F) to wanted (M, n)."""
    ridge = ridge * float(inputs.square().mean()) * len(inputs)
    power = inputs.T @ inputs + ridge * torch.eye(inputs.shape[1]).to(inputs)
    weight: Tensor = torch.linalg.solve(power, inputs.T @ wanted)
    return weight


def key_words() -> Tensor:
    """(L, 4) what keys say at a spread of UNIT: the cell's place, its square, and being none."""
    cells = cell_places().double()
    words = torch.zeros(TOKENS, 4).double()
    words[:FIRST, 3] = -FAR
    words[FIRST:, :2] = cells / UNIT
    words[FIRST:, 2] = -cells.square().sum(1) / (2 * UNIT**2)
    return words


def query_words(side: int, cell: int) -> Tensor:
    """(side^2, 4) what queries say: the place, in cells of ``cell`` pixels from the middle, and
    twice 1."""
    rows = torch.cartesian_prod(torch.arange(side), torch.arange(side)).double()
    places = (rows - (side - 1) / 2) * SIDE / (side * cell)
    return torch.cat([places / UNIT, torch.ones(side**2, 2).double()], 1)


@torch.no_grad()
def look_at_canvas(lesson: CanvasLesson, questions: Sequence[Question]) -> Heads:
    """Change a third of the heads of the UNet's text attention, those that say least, in place.
    Returns which these are."""
    base, canvas = lesson.base, lesson.canvas
    states = encode_text(
        base.model.text_encoder, base.told([question.prompt for question in questions]).token_ids
    ).double()
    pairs, wanted = states.flatten(0, 1), key_words().repeat(len(states), 1)
    keys = least_squares(pairs, wanted, KEY_RIDGE).T * (UNIT / canvas.spread) ** 2
    directions = reading_directions(lesson)
    layers: dict[str, Any] = {
        name: layer for name, layer in base.model.unet.named_modules() if name.endswith("attn2")
    }
    features = features_of(lesson, questions, layers)
    changed: Heads = {}
    for name, layer in layers.items():
        seen = torch.cat(features[name]).double()
        words = query_words(round(seen.shape[1] ** 0.5), canvas.cell).repeat(len(seen), 1)
        queries = least_squares(seen.flatten(0, 1), words, QUERY_RIDGE).T
        width = layer.to_q.weight.shape[0] // layer.heads
        changed[name] = quiet_heads(layer, layer.heads // 3)
        for number, head in enumerate(changed[name]):
            rows = slice(head * width, (head + 1) * width)
            some = directions.roll(-number * width, 0)[:width]
            write(layer.to_q.weight[rows], queries * width**0.5)
            write(layer.to_k.weight[rows], keys)
            write(layer.to_v.weight[rows], canvas.gain * some / (pairs @ some.T).std())
            layer.to_out[0].weight[:, rows] = 0
    return changed


def features_of(
    lesson: CanvasLesson, questions: Sequence[Question], layers: dict[str, nn.Module]
) -> dict[str, list[Tensor]]:
    """What every layer asks from, in real composites of the questions under noise."""
    base = lesson.base
    found: dict[str, list[Tensor]] = {name: [] for name in layers}

    def keep(name: str) -> Any:
        return lambda _layer, arguments, _named: found[name].append(arguments[0].detach())

    hooks = [
        layer.register_forward_pre_hook(keep(name), with_kwargs=True)
        for name, layer in layers.items()
    ]
    latents, _ = real_latents(base, lesson.library, questions)
    scheduler = noise_scheduler(base.base.prediction_type)
    for timestep in TIMESTEPS:
        noise = torch.randn(latents.shape, generator=seeded(timestep))
        steps = torch.full((len(latents),), timestep)
        noisy = scheduler.add_noise(latents, noise, steps)  # type: ignore[arg-type]
        for first in range(0, len(latents), BATCH):
            part = slice(first, first + BATCH)
            base.model(noisy[part], steps[part], base.told([q.prompt for q in questions[part]]))
    for hook in hooks:
        hook.remove()
    return found


def quiet_heads(layer: Any, count: int) -> list[int]:
    """The heads whose values weigh least in what the layer adds."""
    width = layer.to_q.weight.shape[0] // layer.heads
    rows = [slice(head * width, (head + 1) * width) for head in range(layer.heads)]
    power = [(layer.to_out[0].weight[:, row] @ layer.to_v.weight[row]).norm() for row in rows]
    return torch.stack(power).argsort()[:count].tolist()


def write(weight: Tensor, rows: Tensor) -> None:
    """The first rows of a head's weight; the others are zero."""
    weight.zero_()
    weight[: len(rows)] = rows.to(weight)
