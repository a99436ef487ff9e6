"""What is asked: held-out subjects, prompts, boxes and seeds, drawn once from one seed.

Every query is drawn from a generator of its own (seed, kind, index), so a shorter run asks the
first queries of a longer one. Boxes follow the rules of the training composites, with the aspect
of the *reference's* content: the aspect of another view would give that view away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from subject_diffusion_core.tiny.layouts import SIZE_RANGES

from ..toy.data.compose import draw_sizes, place_boxes, write_caption
from ..toy.data.library import Library, draw_rows
from ..toy.data.pictures import SIDE
from ..toy.data.split import assert_split
from .gallery import near_views, view_vectors
from .rows import DEFAULT_COUNT

QUERY_SEED = 2026
KINDS = ("one", "two", "swap", "seen_scene", "three", "four")  # the order seeds the queries
NUM_SUBJECTS = {"one": 1, "two": 2, "three": 3, "four": 4, "seen_scene": 1}
Box = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class QuerySubject:
    """One asked subject.

    Attributes:
        identity, label: the held-out subject.
        reference_row: the cut-out given as its picture.
        target_row: the cut-out pasted for real composites: a view more than 30 degrees from the
            reference's, or the same picture where a subject has one only (emoji).
        shuffled_row: a picture of another held-out subject, for the control.
        box_px: pixel box x1 y1 x2 y2 in the 128-pixel picture.
    """

    identity: str
    label: str
    reference_row: int
    target_row: int
    shuffled_row: int
    box_px: Box

    @property
    def box_xyxy(self) -> tuple[float, float, float, float]:
        """The box in 0..1."""
        x1, y1, x2, y2 = (value / SIDE for value in self.box_px)
        return x1, y1, x2, y2


@dataclass(frozen=True, kw_only=True)
class Query:
    """One picture to ask for. Two queries of one swap pair differ in their subject alone."""

    kind: str
    index: int
    subjects: tuple[QuerySubject, ...]
    prompt: str
    scene: str
    background_row: int
    seed: int


def far_view(library: Library, row: int, rng: np.random.Generator) -> int:
    """Another view of the subject, more than 30 degrees away; ``row`` where it has one only."""
    if library.records[row]["view"] is None:
        return row
    identity = library.records[row]["identity"]
    rows = [i for i, record in enumerate(library.records) if record["identity"] == identity]
    near = near_views(view_vectors(library, [row]), view_vectors(library, rows))[0]
    far = [other for other, is_near in zip(rows, near, strict=True) if not is_near]
    return far[rng.integers(len(far))]


def other_subject(library: Library, labels: set[str], rng: np.random.Generator) -> int:
    """A cut-out of a held-out subject with none of ``labels``."""
    while True:
        row = draw_rows(library, rng, 1)[0]
        if library.records[row]["label"] not in labels:
            return row


def make_subject(
    library: Library, row: int, box_px: Box, labels: set[str], rng: np.random.Generator
) -> QuerySubject:
    """The subject shown by cut-out ``row``, asked for in ``box_px``."""
    record = library.records[row]
    assert_split([record["identity"]], "heldout")
    return QuerySubject(
        identity=record["identity"],
        label=record["label"],
        reference_row=row,
        target_row=far_view(library, row, rng),
        shuffled_row=other_subject(library, labels, rng),
        box_px=box_px,
    )


def make_query(
    library: Library,
    kind: str,
    index: int,
    rows_and_boxes: list[tuple[int, Box]],
    rng: np.random.Generator,
) -> Query:
    """A query for the subjects shown by some cut-outs, in a scene of its kind, with a seed."""
    labels = [library.records[row]["label"] for row, _ in rows_and_boxes]
    split = "train" if kind == "seen_scene" else "heldout"
    scene_rows = [row for row, scene in enumerate(library.scenes) if scene["split"] == split]
    scene_row = scene_rows[rng.integers(len(scene_rows))]
    scene = library.scenes[scene_row]
    prompt = write_caption(labels, scene["caption"], rng)
    seed = int(rng.integers(2**31))
    subjects = [make_subject(library, row, box, set(labels), rng) for row, box in rows_and_boxes]
    return Query(
        kind=kind,
        index=index,
        subjects=tuple(subjects),
        prompt=prompt,
        scene=scene["scene"],
        background_row=scene_row,
        seed=seed,
    )


def draw_query(library: Library, kind: str, index: int, num_subjects: int) -> Query:
    """Query ``index`` of every kind but "swap"."""
    rng = np.random.default_rng((QUERY_SEED, KINDS.index(kind), index))
    rows = draw_rows(library, rng, num_subjects)
    boxes = place_boxes(draw_sizes([library.cutout(row) for row in rows], SIDE, rng), SIDE, rng)
    return make_query(library, kind, index, list(zip(rows, boxes, strict=True)), rng)


def design_pairs(library: Library) -> list[tuple[int, int]]:
    """Cut-outs of the two designs (Fluent, Noto) of every held-out emoji that has both."""
    designs: dict[str, dict[str, int]] = {}
    for _, rows in library.emoji:
        _, code_points, design = library.records[rows[0]]["identity"].split(":")
        designs.setdefault(code_points, {})[design] = rows[0]
    return [(d["fluent"], d["noto"]) for _, d in sorted(designs.items()) if len(d) == 2]


def shared_box(library: Library, rows: tuple[int, int], rng: np.random.Generator) -> Box:
    """One box for both designs: the geometric mean of their aspects."""
    cutouts = [library.cutout(row) for row in rows]
    aspect = float(np.sqrt(np.prod([cutout.width / cutout.height for cutout in cutouts])))
    longest = rng.uniform(*SIZE_RANGES[1]) * SIDE
    size = (round(longest * min(1, aspect)), round(longest * min(1, 1 / aspect)))
    return place_boxes([size], SIDE, rng)[0]


def draw_swap_pair(library: Library, index: int) -> tuple[Query, Query]:
    """Both queries of swap pair ``index``: same caption, box, scene and seed, two designs."""
    pairs = design_pairs(library)
    turn, place = divmod(index, len(pairs))
    order = np.random.default_rng((QUERY_SEED, KINDS.index("swap"), turn)).permutation(len(pairs))
    first, second = pairs[order[place]]
    box_px = shared_box(library, (first, second), np.random.default_rng((QUERY_SEED, 9, index)))
    queries = [
        make_query(
            library, "swap", index, [(row, box_px)], np.random.default_rng((QUERY_SEED, 8, index))
        )
        for row in (first, second)
    ]
    return queries[0], queries[1]


def draw_queries(library: Library, kind: str, count: int = DEFAULT_COUNT) -> list[Query]:
    """The first ``count`` queries of a kind; for "swap", ``count`` // 2 pairs, side by side.

    Args:
        library: held-out identities, held-out scenes.
        kind: "one" to "four" subjects, "swap" pairs, or "seen_scene": one held-out subject in a
            scene of the training captions, for the scene's match.
        count: pictures to ask for.
    """
    if kind == "swap":
        pairs = [draw_swap_pair(library, index) for index in range(count // 2)]
        return [query for pair in pairs for query in pair]
    return [draw_query(library, kind, index, NUM_SUBJECTS[kind]) for index in range(count)]
