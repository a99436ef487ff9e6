"""What is taken away: the rows of the paper's table 3, both map losses, the options beyond it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from training.recipes import TrainingRecipe
from training.recipes.named import NO_POSITIONS

FULL = "full"
# no local start without positions, hence the paper's closed gates
WITHOUT_POSITIONS = {**NO_POSITIONS, "initial_alpha_attn": 0.0, "initial_alpha_dense": 0.0}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One training with something taken away.

    Attributes:
        title: for the tables. paper_row: its letter in the paper's table 3, if it has one.
        changes: of the second stage's recipe.
        moves: the scores that the part is for; without it they should fall.
        against: the variant it is compared with.
    """

    name: str
    title: str
    paper_row: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    moves: tuple[str, ...] = ()
    against: str = FULL

    def recipe_of(self, stage: TrainingRecipe) -> TrainingRecipe:
        """The stage without the part."""
        return replace(stage, **self.changes)


VARIANTS = (
    Variant(name=FULL, title="full", paper_row="a"),
    Variant(
        name="no_location_control",
        title="without location control",
        paper_row="c",
        changes={"location_control": False},
        moves=("box_iou",),
    ),
    # places of patches come from the same boxes, so they go, too
    Variant(
        name="no_box_coordinates",
        title="without box coordinates",
        paper_row="d",
        changes={"box_coordinates": False, **WITHOUT_POSITIONS},
    ),
    Variant(
        name="no_adapter",
        title="without adapter layer",
        paper_row="e",
        changes={"adapter": False, **WITHOUT_POSITIONS},
        moves=("top1", "cosine"),
    ),
    Variant(
        name="no_map_loss",
        title="without attention map control",
        paper_row="f",
        changes={"map_loss": "off"},
    ),
    Variant(
        name="no_image_cls",
        title="without image CLS",
        paper_row="g",
        changes={"image_cls": False},
        moves=("top1", "cosine"),
    ),
    Variant(
        name="plain_l1_map_loss", title="plain L1 map loss (eq. 2)", changes={"map_loss": "l1"}
    ),
    Variant(
        name="no_patch_positions",
        title="without positions beyond the paper",
        changes=WITHOUT_POSITIONS,
    ),
    # what the CLS says while no patch tokens say it better
    Variant(
        name="no_adapter_no_image_cls",
        title="without adapter layer and image CLS",
        changes={"adapter": False, "image_cls": False, **WITHOUT_POSITIONS},
        moves=("top1", "cosine"),
        against="no_adapter",
    ),
)
BY_NAME = {variant.name: variant for variant in VARIANTS}


def with_compared(names: Iterable[str]) -> set[str]:
    """The named variants, those they are compared with, and the full model.

    >>> sorted(with_compared(["no_adapter_no_image_cls"]))
    ['full', 'no_adapter', 'no_adapter_no_image_cls']
    """
    asked = set(names)
    return asked | {FULL} | {BY_NAME[name].against for name in asked}


PAPER_NAMES = {"dino": "DINO", "clip_i": "CLIP-I", "clip_t": "CLIP-T"}


def _scores(*values: float) -> dict[str, float]:
    """Similarity of the subject (DINO, CLIP-I) and of the text (CLIP-T) on DreamBench."""
    return dict(zip(PAPER_NAMES, values, strict=True))


PAPER: dict[str, dict[str | None, dict[str, float]]] = {
    "one_subject": {
        "a": _scores(0.711, 0.787, 0.293),
        "c": _scores(0.694, 0.778, 0.275),
        "d": _scores(0.732, 0.810, 0.282),
        "e": _scores(0.534, 0.731, 0.291),
        "f": _scores(0.692, 0.789, 0.288),
        "g": _scores(0.637, 0.719, 0.299),
    },
    "two_subjects": {
        "a": _scores(0.506, 0.696, 0.310),
        "c": _scores(0.477, 0.666, 0.281),
        "d": _scores(0.464, 0.687, 0.305),
        "e": _scores(0.411, 0.649, 0.307),
        "f": _scores(0.500, 0.688, 0.302),
        "g": _scores(0.457, 0.627, 0.309),
    },
}


def paper_change(row_name: str, variant: Variant, score: str) -> float | None:
    """How much the paper's score ("dino", ...) rose without the part; None where it has no row.

    >>> paper_change("one_subject", VARIANTS[2], "dino")
    0.021
    """
    if variant.paper_row in (None, "a"):
        return None
    row = PAPER[row_name]
    return round(row[variant.paper_row][score] - row["a"][score], 3)
