# Shapes: I subjects, S seeds of each.
"""Which w_s of the sweep measured best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .report import Scores
from .rows import REGULARIZATIONS, TEXT

NUM_DRAWS, DRAW_SEED = 2000, 0


def balance(own: Scores, text: Scores) -> float:
    """How well likeness and prompt are had together: the cosine (I, S) gained over text alone
    times the share of scenes (I, S). Whoever gains nothing, and whoever forgets every prompt,
    has 0.

    >>> half, one = np.array([[0.5]]), np.array([[1.0]])
    >>> balance({"cosine": one, "scene": half}, {"cosine": half})
    0.25
    """
    gained = max(0.0, float((own["cosine"] - text["cosine"]).mean()))
    return gained * float(own["scene"].mean())


def positive_rows(scores: Mapping[str, Scores]) -> dict[float, Scores]:
    """What each w_s above 0 measured."""
    return {value: scores[f"w_s {value:g}"] for value in REGULARIZATIONS if value > 0}


def best_regularization(scores: Mapping[str, Scores]) -> float:
    """The positive w_s of the greatest `balance`; the smallest where none gains anything."""
    rows = positive_rows(scores)
    return max(rows, key=lambda value: balance(rows[value], scores[TEXT]))


def choice(scores: Mapping[str, Scores]) -> Sequence[str]:
    """A line a w_s: its balance, and in how many draws of the subjects it is the best. A last one
    where there are draws in which none gains anything."""
    rows, text = positive_rows(scores), scores[TEXT]
    rng, wins = np.random.default_rng(DRAW_SEED), dict.fromkeys(rows, 0)
    for _ in range(NUM_DRAWS):
        drawn = rng.integers(len(text["cosine"]), size=len(text["cosine"]))
        sample = {value: _of_subjects(own, drawn) for value, own in rows.items()}
        control = _of_subjects(text, drawn)
        balances = {value: balance(own, control) for value, own in sample.items()}
        best = max(balances, key=lambda value: balances[value])
        wins[best] += balances[best] > 0
    lines = [
        f"- w_s {value:g}: likeness beyond text times scenes {balance(own, text):.4f}, the "
        f"best in {wins[value] / NUM_DRAWS:.0%} of {NUM_DRAWS} draws of the subjects."
        for value, own in rows.items()
    ]
    if lost := NUM_DRAWS - sum(wins.values()):
        lines.append(f"- In {lost / NUM_DRAWS:.0%} of the draws no w_s gains likeness.")
    return lines


def _of_subjects(scores: Scores, drawn: np.ndarray) -> Scores:
    return {measure: values[drawn] for measure, values in scores.items()}
