"""A lesson in which the text encoder learns a small picture of every label by heart.

# Shapes: B captions, L tokens (77), D text width, K = 36 cells of the canvas.
Behind a caption all tokens are padding, which says nothing of its own. Its last K tokens become a
canvas: each tells how its cell looks, of the 6 x 6 in the middle of a picture in which the label's
object stands in the middle, and which cell it is. What is told of a cell is the mean of the label's
cut-outs, colour times coverage and coverage, at 4 pixels a point.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTextModel

from ...networks.text import encode_text
from ...precision import fastest_autocast
from ...runs import save_array
from ..data.library import Library
from ..data.pictures import SIDE
from .drawing import Base
from .settings import Canvas
from .typical import typical_library
from .words import Captions, Lesson

CELLS, POINT = 6, 4
VIEWS = 12  # of an identity, at most
TOKENS = 77
FIRST = TOKENS - CELLS**2
TILE_WEIGHT = 2.0


class CanvasLesson(Lesson):
    """The words' lesson, and the canvas behind the caption."""

    seed, batch_size = 77, 64

    def __init__(self, library: Library, work: Path, base: Base, canvas: Canvas) -> None:
        if canvas.typical:
            library = typical_library(library, work, 1)
        super().__init__(library, work, base)
        self.canvas = canvas
        self.tiles = label_tiles(library, work / "evaluation", canvas)
        points = (canvas.cell // POINT) ** 2 * 4
        self.heads.extend([self.head(points), self.head(len(places().T))])

    def read(self, text_encoder: CLIPTextModel, captions: Captions) -> Tensor:
        """The states (B, L, D) of all tokens."""
        with fastest_autocast(captions.ids.device):
            return encode_text(text_encoder, captions.ids).float()

    def errors(self, states: Tensor, captions: Captions) -> list[Tensor]:
        """The words' own, of the canvas's cells and of where they are."""
        tiles = torch.stack([self.tiles[label] for label in captions.labels]).to(states)
        where = places().to(states).expand(len(states), -1, -1)
        return [
            *super().errors(states, captions),
            TILE_WEIGHT * F.mse_loss(self.heads[2](states[:, FIRST:]), tiles),
            F.mse_loss(self.heads[3](states), where),
        ]


def cell_places() -> Tensor:
    """(K, 2) row and column of every cell, 0 in the middle of the picture."""
    return torch.cartesian_prod(torch.arange(CELLS), torch.arange(CELLS)) - (CELLS - 1) / 2


def places() -> Tensor:
    """(L, 4) what a token says of its place: row, column, a quarter of their squares' sum; and 1 of
    one that is no cell."""
    told = torch.zeros(TOKENS, 4)
    told[:FIRST, 3] = 1
    told[FIRST:, :2] = cell_places()
    told[FIRST:, 2] = cell_places().square().sum(1) / 4
    return told


def label_tiles(library: Library, folder: Path, canvas: Canvas) -> dict[str, Tensor]:
    """Every label's cells (K, points x 4) less their mean over labels, in standard deviations; the
    pictures are kept in ``folder``."""
    kept = folder / f"label_pictures-{canvas.cell}-{canvas.size:g}{canvas.kind}.npy"
    groups: dict[str, list[list[int]]] = {}
    for label, rows in (*library.models, *library.emoji):
        groups.setdefault(label, []).append(list(rows))
    if not kept.exists():
        made = [mean_picture(library, rows, canvas) for rows in groups.values()]
        save_array(kept, np.stack(made))
    pictures = torch.from_numpy(np.load(kept)).permute(0, 3, 1, 2)
    cell = canvas.cell // POINT
    tiles = F.unfold(pictures, cell, stride=cell).transpose(1, 2)
    return dict(zip(groups, (tiles - tiles.mean(0)) / tiles.std(), strict=True))


def mean_picture(library: Library, identities: list[list[int]], canvas: Canvas) -> np.ndarray:
    """(points, points, 4) float32: colour in -1..1 times coverage, and coverage, in the mean of the
    identities' views; the object stands in the middle."""
    shown = []
    for rows in identities:
        some = rows[:: max(1, len(rows) // VIEWS)][:VIEWS]
        shown.append(torch.stack([centred(library, row, canvas) for row in some]).mean(0))
    whole = torch.stack(shown).mean(0)
    picture: np.ndarray = F.avg_pool2d(whole, POINT).permute(1, 2, 0).numpy().astype(np.float32)
    return picture


def centred(library: Library, row: int, canvas: Canvas) -> Tensor:
    """(4, side, side) of all cells: a cut-out in the middle, premultiplied."""
    cutout, side = library.cutout(row), CELLS * canvas.cell
    scale = canvas.size * SIDE / max(cutout.width, cutout.height)
    width, height = (max(2, round(edge * scale)) for edge in (cutout.width, cutout.height))
    content = torch.from_numpy(cutout.content().astype(np.float32) / 255).permute(2, 0, 1)
    shown = torch.cat([(content[:3] * 2 - 1) * content[3:], content[3:]])
    small = F.interpolate(shown[None], (height, width), mode="area")[0]
    left, top = (side - width) // 2, (side - height) // 2
    return F.pad(small, (left, side - width - left, top, side - height - top))


def reading_directions(lesson: CanvasLesson) -> Tensor:
    """(points x 4, D) orthonormal directions of a state, in which the canvas's head reads it."""
    head = lesson.heads[2]
    assert isinstance(head, nn.Linear)
    directions: Tensor = torch.linalg.svd(head.weight.detach().double(), full_matrices=False)[2]
    return directions
