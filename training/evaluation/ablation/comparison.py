"""Each variant against the full model or a smaller one, query by query, beside the paper's.

# Shapes: Q queries of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..metrics import Interval, bootstrap, mean_interval
from .variants import FULL, PAPER, VARIANTS, Variant, paper_change

Scores = Mapping[str, Mapping[str, Mapping[str, np.ndarray]]]  # variant, row, score -> (Q,)
Verdict = Literal["as in the paper", "the other way", "not told apart", "not in the paper"]
COUNTERPARTS = {"top1": "dino", "cosine": "dino", "group": "clip_t", "scene": "clip_t"}
PAPER_NAMES = {"dino": "DINO", "clip_i": "CLIP-I", "clip_t": "CLIP-T"}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A variant's score minus that of the variant it is compared with, paired by query.

    Attributes:
        interval: of the difference. paper: the change of the score's counterpart in the paper's
            table 3, None where it has none.
    """

    variant: str
    row: str
    score: str
    interval: Interval
    paper: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.interval.low > 0 or self.interval.high < 0

    @property
    def verdict(self) -> Verdict:
        """The direction beside the paper's."""
        if self.paper is None:
            return "not in the paper"
        if not self.excludes_zero or self.paper == 0:
            return "not told apart"
        same = (self.interval.value > 0) == (self.paper > 0)
        return "as in the paper" if same else "the other way"


def paired_difference(own: np.ndarray, other: np.ndarray) -> Interval:
    """Mean of ``own`` (Q,) minus that of ``other`` (Q,), the same queries in the same order.

    >>> paired_difference(np.array([0.0, 1.0]), np.array([1.0, 1.0])).value
    -0.5
    """
    return bootstrap(lambda own_mean, other_mean: own_mean - other_mean, own, other)


def differences(scores: Scores) -> list[Difference]:
    """Every variant's, row's and score's difference to the variant it is compared with."""
    found = []
    for variant in variants_of(scores):
        for row, values in scores[variant.name].items():
            for score, own in values.items():
                counterpart = COUNTERPARTS.get(score)
                found.append(
                    Difference(
                        variant=variant.name,
                        row=row,
                        score=score,
                        interval=paired_difference(own, scores[variant.against][row][score]),
                        paper=paper_change(row, variant, counterpart) if counterpart else None,
                    )
                )
    return found


def variants_of(scores: Scores) -> list[Variant]:
    """The measured variants but the full model, in the table's order."""
    return [v for v in VARIANTS if v.name in scores and v.name != FULL]


def means(scores: Scores) -> dict[str, dict[str, dict[str, Interval | None]]]:
    """The scores themselves, with intervals, in the table's order."""
    return {
        variant.name: {
            row: {score: mean_interval(values) for score, values in by_score.items()}
            for row, by_score in scores[variant.name].items()
        }
        for variant in VARIANTS
        if variant.name in scores
    }


def paper_pair(difference: Difference) -> tuple[str, float, float]:
    """The counterpart's name and the paper's scores: full, and without the part."""
    counterpart = COUNTERPARTS[difference.score]
    letter = next(v.paper_row for v in VARIANTS if v.name == difference.variant)
    rows = PAPER[difference.row]
    assert letter is not None
    full, without = (getattr(rows[key], counterpart) for key in ("a", letter))
    return PAPER_NAMES[counterpart], full, without
