"""Parts of the sampling in which the same subjects take part."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple


class Period(NamedTuple):
    """From `start` to `end`, in percent 0..1 of the sampling, the subjects of `present` act.

    `present` holds indices, in the order of the subjects. A step on the bound of two periods
    belongs to the later one.
    """

    start: float
    end: float
    present: tuple[int, ...]


def split_into_periods(
    ranges: Sequence[tuple[float, float]], start: float, end: float
) -> list[Period]:
    """Cut start..end wherever a subject comes or goes.

    Args:
        ranges: (start, end) of each subject, 0..1.
        start, end: of the adapter; no subject acts outside of it.

    >>> split_into_periods([(0.0, 1.0), (0.5, 1.0)], 0.0, 0.75)
    [Period(start=0.0, end=0.5, present=(0,)), Period(start=0.5, end=0.75, present=(0, 1))]
    """
    inner = {bound for bounds in ranges for bound in bounds if start < bound < end}
    bounds = [start, *sorted(inner), end]
    periods = []
    for first, last in itertools.pairwise(bounds):
        present = [i for i, (begins, ends) in enumerate(ranges) if begins <= first and last <= ends]
        periods.append(Period(first, last, tuple(present)))
    return periods
