"""What is asked of a base from text alone: one training label in one training scene a picture.

# Shapes: H picture side (128).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.evaluation.text_match import group_of
from training.toy.data.compose import compose, draw_sizes, place_boxes, write_caption
from training.toy.data.library import Library, draw_rows
from training.toy.data.pictures import SIDE

from .compositions import middle_box

SEED = 71
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One picture to draw.

    Attributes:
        prompt: as training captions are written, of ``label`` and ``scene``.
        group: the label's. row: the cut-out whose label it is.
        box_px: TinyBench's box for it, which a base is not told.
        background_row: the scene's photograph for the real composite.
        wrong_label, wrong_scene: the same prompt with another group's label, or another scene.
        seed: of the noise.
    """

    prompt: str
    label: str
    group: str
    scene: str
    row: int
    box_px: Box
    background_row: int
    wrong_label: str
    wrong_scene: str
    seed: int


def draw_question(library: Library, index: int) -> Question:
    """Question ``index``; a shorter list is the beginning of a longer one."""
    rng = np.random.default_rng((SEED, index))
    (row,) = draw_rows(library, rng, 1)
    record = library.records[row]
    box = place_boxes(draw_sizes([library.cutout(row)], SIDE, rng), SIDE, rng)[0]
    scene_row = int(rng.choice(library.scene_rows))
    scene = library.scenes[scene_row]
    group = group_of(record["category"])
    other = library.records[other_row(library, rng, group, record["label"])]["label"]
    names = {library.scenes[at]["caption"] for at in library.scene_rows} - {scene["caption"]}
    caption = sorted(names)[rng.integers(len(names))]
    turn = int(rng.integers(2**31))

    def written(label: str, place: str) -> str:
        return write_caption([label], place, np.random.default_rng(turn))

    return Question(
        prompt=written(record["label"], scene["caption"]),
        label=record["label"],
        group=group,
        scene=scene["scene"],
        row=row,
        box_px=box,
        background_row=scene_row,
        wrong_label=written(other, scene["caption"]),
        wrong_scene=written(record["label"], caption),
        seed=turn,
    )


def other_row(library: Library, rng: np.random.Generator, group: str, label: str) -> int:
    """A cut-out of another group and label."""
    while True:
        (row,) = draw_rows(library, rng, 1)
        record = library.records[row]
        if group_of(record["category"]) != group and record["label"] != label:
            return row


def draw_questions(library: Library, count: int) -> list[Question]:
    """The first ``count`` questions; ``library`` of train identities and scenes."""
    return [draw_question(library, index) for index in range(count)]


def answered_from(library: Library, question: Question) -> Question:
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
