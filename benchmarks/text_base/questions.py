"""What is asked of a base from text alone, and what would be wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.toy.data.compose import draw_sizes, place_boxes, write_caption
from training.toy.data.label_rules import group_of
from training.toy.data.library import Library, draw_rows
from training.toy.data.pictures import SIDE
from training.toy.text.questions import SEED, Question

Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class ToldQuestion(Question):
    """One picture to draw, and what would be wrong.

    Attributes:
        group: the label's. box_px: TinyBench's box for it, which a base is not told.
        wrong_label, wrong_scene: the same prompt with another group's label, or another scene.
    """

    group: str
    box_px: Box
    wrong_label: str
    wrong_scene: str


def draw_question(library: Library, index: int) -> ToldQuestion:
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

    return ToldQuestion(
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


def draw_questions(library: Library, count: int) -> list[ToldQuestion]:
    """The first ``count`` questions; ``library`` of train identities and scenes."""
    return [draw_question(library, index) for index in range(count)]
