"""Pictures asked of a base by text alone, one training label in one training scene each, and their
real composites.

# Shapes: H picture side (128).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ..data.compose import compose, write_caption
from ..data.library import Library, draw_rows
from .compositions import middle_box

SEED = 71


@dataclass(frozen=True, kw_only=True)
class Question:
    """One picture to draw.

    Attributes:
        prompt: as training captions are written, of ``label`` and ``scene``.
        row: the cut-out whose label it is.
        background_row: the scene's photograph for the real composite.
        seed: of the noise.
    """

    prompt: str
    label: str
    scene: str
    row: int
    background_row: int
    seed: int


Asked = TypeVar("Asked", bound=Question)


def draw_question(library: Library, index: int) -> Question:
    """Question ``index`` of a library of train identities and scenes."""
    rng = np.random.default_rng((SEED, index))
    (row,) = draw_rows(library, rng, 1)
    label = library.records[row]["label"]
    scene_row = int(rng.choice(library.scene_rows))
    scene = library.scenes[scene_row]
    return Question(
        prompt=write_caption([label], scene["caption"], rng),
        label=label,
        scene=scene["scene"],
        row=row,
        background_row=scene_row,
        seed=int(rng.integers(2**31)),
    )


def answered_from(library: Library, question: Asked) -> Asked:
    """The same question, whose real composite is made of pictures that ``library`` has."""
    rng = np.random.default_rng((SEED, question.seed, 1))
    views = [row for row in library.scene_rows if library.scenes[row]["scene"] == question.scene]
    rows = dict((*library.models, *library.emoji))[question.label]
    return replace(question, background_row=int(rng.choice(views)), row=int(rng.choice(rows)))


def real_picture(
    library: Library, question: Question, size: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """The answer as a composite (H, H, 3) uint8, and its subject's mask (H, H) bool.

    The subject stands at a place of its own, as a base that is not told the box may put it; with a
    ``size``, of its longer side and of the picture's, it stands in the middle.
    """
    rng = np.random.default_rng((SEED, question.seed))
    background = np.asarray(library.backgrounds[question.background_row])
    cutout = library.cutout(question.row)
    boxes = [middle_box(cutout, (size, size), 0.0, rng)] if size else None
    composite = compose([cutout], background, question.scene, rng, boxes_px=boxes, flipped=[False])
    return composite.image, composite.masks[0]
