"""How much of the looks of labels and scenes can be read from a text encoder's states."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from training.toy.data.library import Library
from training.toy.text.drawing import Base
from training.toy.text.words import BATCH, Lesson

READ = ("read_label", "read_late", "read_scene")
FIRST_UNSEEN, FITTED, TESTED, RIDGE = 1_000_000, 24, 8, 1e-3  # batches; of the states' power


@torch.no_grad()
def readable(library: Library, work: Path, base: Base) -> dict[str, float]:
    """How much of the looks can be read from the states of new captions of the same labels by a
    linear map (R squared): of a label at its own end and at the caption's, of a scene at the
    caption's. The map is fitted to other captions; states without meaning, one for each label,
    would give D / number of labels."""
    lesson = Lesson(library, work, base)
    found: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in READ}
    for step in range(FIRST_UNSEEN, FIRST_UNSEEN + FITTED + TESTED):
        captions = lesson.batch(step)
        states, rows = lesson.read(base.model.text_encoder, captions).double(), torch.arange(BATCH)
        at_end = states[rows, captions.ends]
        own = (states[rows, captions.label_ends], captions.label_looks)
        late = (at_end, captions.label_looks), (at_end, captions.scene_looks)
        for name, pair in zip(READ, (own, *late), strict=True):
            found[name].append(pair)
    return {name: explained(pairs) for name, pairs in found.items()}


def explained(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """R squared on the last batches of a linear map fitted to the first ones."""
    states, looks = (torch.cat(part).double() for part in zip(*pairs, strict=True))
    states = torch.cat([states, torch.ones(len(states), 1)], 1)
    fitted = FITTED * BATCH
    own, wanted = states[:fitted], looks[:fitted]
    ridge = RIDGE * own.square().mean() * torch.eye(own.shape[1]).double()
    weight = torch.linalg.solve(own.T @ own + ridge, own.T @ wanted)
    error = (states[fitted:] @ weight - looks[fitted:]).square().mean()
    spread = (looks[fitted:] - looks[:fitted].mean(0)).square().mean()
    return float(1 - error / spread)
