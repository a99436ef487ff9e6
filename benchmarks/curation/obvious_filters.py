"""The filters of appendix B.1 once more, as slowly and plainly as they can be said.

Shares no code with `training.curation.filters`: boxes are exact fractions, masks are counted number
by number, overlapping boxes are sorted out pair after pair. What differs between the two is a fault
in one of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from training.curation.filters import Thresholds
from training.curation.record import FoundEntity, Record, RunLengths


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What becomes of a picture.

    Attributes:
        kept: places of its subjects that stay, counted from 0; empty = the picture goes.
        dropped: (rule, place of the subject or -1 for the picture, what was measured).
    """

    kept: tuple[int, ...]
    dropped: tuple[tuple[str, int, float], ...]


def judge(record: Record, limits: Thresholds) -> Verdict:
    """All rules in the order 7, 5, 1, 2, 4, 3, and 6 last."""
    width, height = record.width, record.height
    entities = record.entities
    assert width is not None and height is not None and entities is not None
    dropped: list[tuple[str, int, float]] = []
    if min(width, height) < limits.min_side:
        return Verdict(kept=(), dropped=(("resolution", -1, min(width, height)),))

    left = list(range(len(entities)))
    # Rule 7: groups, then parts of bodies.
    for place in list(left):
        if entities[place].is_group:
            left.remove(place)
            dropped.append(("group", place, 1.0))
    for place in list(left):
        if entities[place].is_body_part:
            left.remove(place)
            dropped.append(("body_part", place, 1.0))
    # Rule 5: scores below .2.
    for place in list(left):
        if _nine_digits(Fraction(entities[place].score)) < limits.min_score:
            left.remove(place)
            dropped.append(("score", place, entities[place].score))
    # Rule 1: the box's width by its height in pixels is between .3 and 3.
    for place in list(left):
        x1, y1, x2, y2 = _exact(entities[place])
        ratio = _nine_digits((x2 - x1) * width / ((y2 - y1) * height))
        if ratio < limits.min_aspect or ratio > limits.max_aspect:
            left.remove(place)
            dropped.append(("aspect", place, ratio))
    # Rule 2: the box covers .05 to .7 of the picture, or the picture goes.
    outside = []
    for place in left:
        share = _nine_digits(_area(entities[place]))
        if share < limits.min_area or share > limits.max_area:
            outside.append(("area", place, share))
    if outside:
        return Verdict(kept=(), dropped=(*dropped, *outside))
    # Rule 4: a label that stands there more than five times.
    crowded = []
    for place in left:
        same = [o for o in left if entities[o].label.lower() == entities[place].label.lower()]
        if len(same) > limits.max_per_label:
            crowded.append(("per_label", place, float(len(same))))
    dropped += crowded
    left = [place for place in left if place not in {place for _, place, _ in crowded}]
    left, doubles = _without_doubles(entities, left, limits.max_iou)
    dropped += doubles
    # Rule 6: the mask covers 60 % of its box, or the picture goes.
    hollow = []
    for place in left:
        mask = entities[place].mask
        assert mask is not None
        box_pixels = _area(entities[place]) * mask.width * mask.height
        share = _nine_digits(_count(mask) / box_pixels)
        if share < limits.min_mask_share:
            hollow.append(("mask_share", place, share))
    if hollow:
        return Verdict(kept=(), dropped=(*dropped, *hollow))
    if not left:
        return Verdict(kept=(), dropped=(*dropped, ("no_subjects", -1, 0.0)))
    return Verdict(kept=tuple(left), dropped=tuple(dropped))


def _without_doubles(
    entities: tuple[FoundEntity, ...], left: list[int], limit: float
) -> tuple[list[int], list[tuple[str, int, float]]]:
    """Rule 3: the best of what is left stays and sends away all that overlap it by more than .8."""
    stay: list[int] = []
    gone: list[int] = []
    waiting = list(left)
    while waiting:
        best = waiting[0]
        for place in waiting:
            if entities[place].score > entities[best].score:
                best = place
        waiting.remove(best)
        stay.append(best)
        for place in list(waiting):
            if _overlap(entities[best], entities[place]) > limit:
                waiting.remove(place)
                gone.append(place)
    doubles = []
    for place in gone:
        better = [
            other
            for other in stay
            if (-entities[other].score, other) < (-entities[place].score, place)
        ]
        most = max(_overlap(entities[other], entities[place]) for other in better)
        doubles.append(("iou", place, most))
    return sorted(stay), doubles


def _nine_digits(value: Fraction) -> float:
    """What is compared with a limit, so that a box three times as wide as high is not wider."""
    return float(round(value, 9))


def _exact(entity: FoundEntity) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    x1, y1, x2, y2 = entity.box_xyxy
    return Fraction(x1), Fraction(y1), Fraction(x2), Fraction(y2)


def _area(entity: FoundEntity) -> Fraction:
    x1, y1, x2, y2 = _exact(entity)
    return (x2 - x1) * (y2 - y1)


def _overlap(first: FoundEntity, second: FoundEntity) -> float:
    """Intersection over union of two boxes."""
    a, b = _exact(first), _exact(second)
    left, top = max(a[0], b[0]), max(a[1], b[1])
    right, bottom = min(a[2], b[2]), min(a[3], b[3])
    if left >= right or top >= bottom:
        return 0.0
    inside = (right - left) * (bottom - top)
    return _nine_digits(inside / (_area(first) + _area(second) - inside))


def _count(mask: RunLengths) -> int:
    """White pixels of COCO's text, number after number, six bits a character."""
    numbers: list[int] = []
    digits: list[int] = []
    for character in mask.counts:
        code = ord(character) - ord("0")
        digits.append(code % 32)
        if code >= 32:
            continue
        value = sum(digit * 32**place for place, digit in enumerate(digits))
        if digits[-1] >= 16:
            value -= 32 ** len(digits)
        if len(numbers) >= 3:
            value += numbers[-2]
        numbers.append(value)
        digits = []
    assert sum(numbers) == mask.width * mask.height
    return sum(number for place, number in enumerate(numbers) if place % 2 == 1)
