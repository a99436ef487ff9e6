# Shapes: H side of a picture (128).
"""The subjects that are tuned: one training picture each, and what is asked of it afterwards.

Every subject is drawn from a generator of its own, so a shorter run has the first subjects of a
longer one. All are held out: a base may draw what it was trained on from its label alone, and then
a tuning has nothing to add. The training picture shows the subject in a photograph of a held-out
scene; prompts name scenes of the base's training captions, whose words the base knows, so that
whatever of the photograph shows in a picture came through the tuning. The asked box is where the
subject stands in its training picture: a tuned embedding knows of no box, and draws its subject
there if anywhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.queries import Query, QuerySubject, other_subject
from training.toy.data.compose import compose, draw_sizes, place_boxes, write_caption
from training.toy.data.library import Library, draw_rows
from training.toy.data.pictures import SIDE
from training.toy.data.split import SPLITS

SUBJECT_SEED = 2312
KIND = "seen_scene"


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedSubject:
    """A subject, its one picture and what is asked of it.

    Attributes:
        picture: (H, H, 4) uint8, the subject in a photograph; alpha 255 = subject, else 0.
        background_row, background_scene: that photograph.
        queries: one a seed, each with its own scene, words and noise; all with the same box.
    """

    picture: np.ndarray
    background_row: int
    background_scene: str
    queries: tuple[Query, ...]

    @property
    def label(self) -> str:
        return self.queries[0].subjects[0].label


def draw_subjects(
    library: Library, count: int, num_seeds: int, skipped: int = 0
) -> tuple[TunedSubject, ...]:
    """`count` subjects after the first `skipped`, all different."""
    subjects: list[TunedSubject] = []
    seen: set[str] = set()
    for index in itertools.count():
        if len(subjects) == count:
            return tuple(subjects)
        rng = np.random.default_rng((SUBJECT_SEED, SPLITS.index("heldout"), index))
        (row,) = draw_rows(library, rng, 1)
        identity = library.records[row]["identity"]
        if identity not in seen:
            seen.add(identity)
            if len(seen) > skipped:
                subjects.append(_make_subject(library, row, len(subjects), num_seeds, rng))
    raise AssertionError("count() does not end")


def _make_subject(
    library: Library, row: int, number: int, num_seeds: int, rng: np.random.Generator
) -> TunedSubject:
    cutout, record = library.cutout(row), library.records[row]
    (box_px,) = place_boxes(draw_sizes([cutout], SIDE, rng), SIDE, rng)
    background_row = library.scene_rows[rng.integers(len(library.scene_rows))]
    background = np.asarray(library.backgrounds[background_row])
    composite = compose([cutout], background, "", rng, boxes_px=[box_px], flipped=[False])
    alpha = composite.masks[0].astype(np.uint8) * 255
    subject = QuerySubject(
        identity=record["identity"],
        label=record["label"],
        reference_row=row,
        target_row=row,
        shuffled_row=other_subject(library, {record["label"]}, rng),
        box_px=box_px,
    )
    return TunedSubject(
        picture=np.dstack([composite.image, alpha]),
        background_row=background_row,
        background_scene=library.scenes[background_row]["scene"],
        queries=tuple(_make_query(library, subject, number, rng) for _ in range(num_seeds)),
    )


def _make_query(
    library: Library, subject: QuerySubject, number: int, rng: np.random.Generator
) -> Query:
    rows = [row for row, scene in enumerate(library.scenes) if scene["split"] == "train"]
    scene_row = rows[rng.integers(len(rows))]
    scene = library.scenes[scene_row]
    return Query(
        kind=KIND,
        index=number,
        subjects=(subject,),
        prompt=write_caption([subject.label], scene["caption"], rng),
        scene=scene["scene"],
        background_row=scene_row,
        seed=int(rng.integers(2**31)),
    )


def all_queries(subjects: Sequence[TunedSubject]) -> list[Query]:
    """Subject after subject; a query's `index` is its subject's place."""
    return [query for subject in subjects for query in subject.queries]
