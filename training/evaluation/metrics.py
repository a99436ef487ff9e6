"""Scores of looked-up crops, and bootstrap intervals.

# Shapes: B looked-up crops, K identities, R resamples, Q queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

NUM_RESAMPLES = 2000
BOOTSTRAP_SEED = 0
CONTROL_FACTOR = 3.0


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def look_up(best_by_identity: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank (0 = first) and cosine of the right identity, each (B,).

    Args:
        best_by_identity: (B, K) cosine to the best view of every identity.
        right: (B,) index of the right identity.

    >>> look_up(np.array([[0.9, 0.2, 0.5]]), np.array([2]))
    (array([1]), array([0.5]))
    """
    cosine = np.take_along_axis(best_by_identity, right[:, None], axis=1)
    return (best_by_identity > cosine).sum(axis=1), cosine[:, 0]


def bootstrap(statistic: Callable[..., np.ndarray], *values: np.ndarray) -> Interval:
    """95 % percentile interval of a statistic of query means.

    All rows of a table are resampled alike, so that rows pair up.

    Args:
        statistic: takes the mean of each of ``values``: floats, or (R,) of resampled means.
        values: (Q,) per query, paired: query i is the same query in all of them. What belongs to
            one query (two subjects of one picture) must be averaged before.

    >>> str(bootstrap(lambda mean: mean, np.ones(4)))
    '1.000 [1.000, 1.000]'
    """
    count = len(values[0])
    rng = np.random.default_rng((BOOTSTRAP_SEED, count))
    rows = rng.integers(count, size=(NUM_RESAMPLES, count))
    resampled = statistic(*(value[rows].mean(axis=1) for value in values))
    low, high = np.quantile(resampled, (0.025, 0.975))
    point = statistic(*(value.mean() for value in values))
    return Interval(value=float(point), low=float(low), high=float(high))


def mean_interval(values: np.ndarray) -> Interval | None:
    """Mean of (Q,) with its interval; None where there is nothing."""
    return bootstrap(lambda mean: mean, values) if len(values) else None


def lead_over_controls(found: np.ndarray, controls: Sequence[np.ndarray]) -> Interval:
    """Share found minus three times the better control's share, paired by query.

    >>> lead_over_controls(np.ones(3), [np.zeros(3), np.ones(3)]).value
    -2.0
    """
    return bootstrap(
        lambda own, *others: own - CONTROL_FACTOR * np.maximum.reduce(others), found, *controls
    )


def share_of_bound(found: np.ndarray, bound: np.ndarray) -> Interval:
    """Share found as a part of the bound's share found, paired by query; nan for an empty bound.

    >>> share_of_bound(np.array([1.0, 0.0]), np.array([1.0, 1.0])).value
    0.5
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return bootstrap(np.divide, found, bound)


def swap_shares(own_cosine: np.ndarray, twin_cosine: np.ndarray) -> dict[str, np.ndarray]:
    """Swap test of pairs that lie side by side: pictures 2i and 2i + 1; a value a pair.

    The share of pictures nearer to their own design, and of pairs whose two pictures both are.

    Args:
        own_cosine: (B,) cosine to the design that was given.
        twin_cosine: (B,) cosine to the other design of the pair.

    >>> shares = swap_shares(np.array([0.9, 0.9, 0.9, 0.1]), np.full(4, 0.5))
    >>> shares["per_picture"].tolist(), shares["both"].tolist()
    ([1.0, 0.5], [1.0, 0.0])
    """
    right = (own_cosine > twin_cosine).reshape(-1, 2)
    return {"per_picture": right.mean(axis=1), "both": right.min(axis=1).astype(np.float64)}


def swap_scores(own_cosine: np.ndarray, twin_cosine: np.ndarray) -> dict[str, Interval]:
    """Means of `swap_shares` with their intervals.

    >>> scores = swap_scores(np.array([0.9, 0.9, 0.9, 0.1]), np.full(4, 0.5))
    >>> scores["per_picture"].value, scores["both"].value
    (0.75, 0.5)
    """
    shares = swap_shares(own_cosine, twin_cosine)
    return {name: bootstrap(lambda mean: mean, share) for name, share in shares.items()}
