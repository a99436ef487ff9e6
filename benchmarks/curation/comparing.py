"""Every decision of the filters beside that of the obvious ones."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from training.curation.filters import (
    Decision,
    Drop,
    Thresholds,
    filter_entities,
    filter_masks,
    filter_resolution,
)
from training.curation.record import Record

from .obvious_filters import Verdict, judge

SAME = 2e-9  # of what was measured: both round to nine digits, one of them fractions


@dataclass(kw_only=True)
class Compared:
    """What a comparison found.

    Attributes:
        pictures, kept, subjects: how many; subjects of the kept pictures.
        by_rule: how many drops each rule made. different: keys of what the two decide differently.
    """

    pictures: int = 0
    kept: int = 0
    subjects: int = 0
    by_rule: Counter[str] = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """To read."""
        rules = ", ".join(f"{rule} {count}" for rule, count in sorted(self.by_rule.items()))
        return [
            f"{self.pictures} pictures, {len(self.different)} decided differently",
            f"kept: {self.kept} pictures with {self.subjects} subjects; dropped: {rules}",
        ]


def run_filters(record: Record, limits: Thresholds) -> Decision:
    """The filters as the pipeline calls them, one after another."""
    dropped: list[Drop] = []
    for rule in (filter_resolution, filter_entities, filter_masks):
        decision = rule(record, limits)
        dropped += decision.dropped
        if decision.record is None:
            return Decision(record=None, dropped=tuple(dropped))
        record = decision.record
    return Decision(record=record, dropped=tuple(dropped))


def as_verdict(record: Record, decision: Decision) -> Verdict:
    """A decision in the words of the obvious filters: places instead of subjects."""
    places = {id(entity): place for place, entity in enumerate(record.entities or ())}
    left = () if decision.record is None else decision.record.entities or ()
    dropped = [
        (drop.rule, -1 if drop.entity is None else places[id(drop.entity)], drop.value)
        for drop in decision.dropped
    ]
    return Verdict(kept=tuple(places[id(entity)] for entity in left), dropped=tuple(dropped))


def same(first: Verdict, second: Verdict) -> bool:
    """Whether both keep and drop the same, for the same rules with the same values."""
    if first.kept != second.kept or len(first.dropped) != len(second.dropped):
        return False
    pairs = zip(sorted(first.dropped), sorted(second.dropped), strict=True)
    return all(
        a[:2] == b[:2] and math.isclose(a[2], b[2], rel_tol=SAME, abs_tol=SAME) for a, b in pairs
    )


def compare(records: Iterable[Record], limits: Thresholds) -> Compared:
    """Both filters on all pictures."""
    found = Compared()
    for record in records:
        expected = judge(record, limits)
        decision = as_verdict(record, run_filters(record, limits))
        found.pictures += 1
        found.kept += bool(expected.kept)
        found.subjects += len(expected.kept)
        found.by_rule.update(rule for rule, _, _ in expected.dropped)
        if not same(expected, decision):
            found.different.append(record.key)
    return found
