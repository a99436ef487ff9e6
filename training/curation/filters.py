"""The filters of the paper's appendix B.1, in the order 7, 5, 1, 2, 4, 3, and 6 after the masks.

Rules 2 and 6 drop the *picture* if any subject that is left is outside; the others drop subjects.
A picture without a subject left goes, too ("no_subjects"). Limits belong to what is kept, and
values are rounded to nine digits, so that 0.6 of a box is 0.6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .record import FoundEntity, Record
from .record_masks import area_of

Box = tuple[float, float, float, float]
PICTURE_RULES = ("resolution", "area", "mask_share", "no_subjects")
ENTITY_RULES = ("group", "body_part", "score", "aspect", "per_label", "iou")


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The limits of the filters.

    Attributes:
        min_aspect, max_aspect: rule 1, width / height of a box in pixels.
        min_area, max_area: rule 2, a box's share of the picture.
        max_iou: rule 3, overlap of two boxes.
        max_per_label: rule 4, boxes of one label.
        min_score: rule 5, the detector's score.
        min_mask_share: rule 6, the mask's share of its box.
        min_side: pixels of the picture's smaller side.
    """

    min_aspect: float = 0.3
    max_aspect: float = 3.0
    min_area: float = 0.05
    max_area: float = 0.7
    max_iou: float = 0.8
    max_per_label: int = 5
    min_score: float = 0.2
    min_mask_share: float = 0.6
    min_side: int = 1024

    def __post_init__(self) -> None:
        for low, high in (("min_aspect", "max_aspect"), ("min_area", "max_area")):
            if not 0 <= getattr(self, low) < getattr(self, high):
                raise ValueError(
                    f"{low}: expected 0 to below {high}, {getattr(self, high)}, got "
                    f"{getattr(self, low)}. Correct one of them."
                )
        for name in ("max_area", "max_iou", "min_score", "min_mask_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}. Correct it.")
        for name, least in (("max_per_label", 1), ("min_side", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name}: expected {least} or more, got {getattr(self, name)}. Correct it."
                )


@dataclass(frozen=True, kw_only=True)
class Drop:
    """What a rule took away.

    Attributes:
        rule: one of PICTURE_RULES or ENTITY_RULES.
        entity: the subject that broke the rule; None = the picture itself.
        value: what the rule measured: an aspect, share, overlap, count, score or side.
    """

    rule: str
    entity: FoundEntity | None
    value: float

    def to_fields(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {**vars(self), "entity": None if self.entity is None else self.entity.to_fields()}


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The picture with the subjects that are left, or None, and all that was dropped."""

    record: Record | None
    dropped: tuple[Drop, ...]


def aspect(box: Box, record: Record) -> float:
    """Width / height of a box in pixels."""
    assert record.width is not None and record.height is not None, "check the picture first"
    return (box[2] - box[0]) * record.width / ((box[3] - box[1]) * record.height)


def area(box: Box) -> float:
    """A box's share of the picture."""
    return (box[2] - box[0]) * (box[3] - box[1])


def iou(first: Box, second: Box) -> float:
    """Intersection over union of two boxes.

    >>> iou((0, 0, 1, 1), (0, 0, 0.5, 1))
    0.5
    """
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (area(first) + area(second) - width * height)


def mask_share(entity: FoundEntity) -> float:
    """Pixels of the mask over pixels of its box (rule 6)."""
    mask = entity.mask
    assert mask is not None, "make the masks first"
    return area_of(mask) / (area(entity.box_xyxy) * mask.height * mask.width)


def filter_resolution(record: Record, thresholds: Thresholds) -> Decision:
    """Drops a picture whose smaller side is too small."""
    assert record.width is not None and record.height is not None, "check the picture first"
    side = min(record.width, record.height)
    if side >= thresholds.min_side:
        return Decision(record=record, dropped=())
    drop = Drop(rule="resolution", entity=None, value=float(side))
    return Decision(record=None, dropped=(drop,))


def filter_entities(record: Record, thresholds: Thresholds) -> Decision:
    """Rules 7, 5, 1, 2, 4 and 3, for which no mask is needed."""
    entities = record.entities
    assert entities is not None, "find the boxes first"
    dropped: list[Drop] = []
    single: tuple[tuple[str, Callable[[FoundEntity], float], float, float], ...] = (
        ("group", lambda e: float(e.is_group), 0, 0),
        ("body_part", lambda e: float(e.is_body_part), 0, 0),
        ("score", lambda e: e.score, thresholds.min_score, float("inf")),
        ("aspect", lambda e: aspect(e.box_xyxy, record), thresholds.min_aspect,
         thresholds.max_aspect),
    )  # fmt: skip
    for rule, measure, low, high in single:
        outside = _outside(rule, entities, measure, low, high)
        dropped += outside
        entities = _without(entities, outside)
    outside = _outside(
        "area", entities, lambda e: area(e.box_xyxy), thresholds.min_area, thresholds.max_area
    )
    if outside:
        return Decision(record=None, dropped=(*dropped, *outside))
    crowded = _too_many(entities, thresholds)
    entities = _without(entities, crowded)
    doubles = _doubles(entities, thresholds)
    return _left(record, _without(entities, doubles), [*dropped, *crowded, *doubles])


def filter_masks(record: Record, thresholds: Thresholds) -> Decision:
    """Rule 6: a picture goes if the mask of any subject fills too little of its box; an empty mask
    is always too little."""
    assert record.entities is not None, "find the boxes first"
    low = max(thresholds.min_mask_share, 1e-9)
    outside = _outside("mask_share", record.entities, mask_share, low, float("inf"))
    if outside:
        return Decision(record=None, dropped=tuple(outside))
    return _left(record, record.entities, [])


def _outside(
    rule: str,
    entities: tuple[FoundEntity, ...],
    measure: Callable[[FoundEntity], float],
    low: float,
    high: float,
) -> list[Drop]:
    """Subjects whose value, to nine digits, is below ``low`` or above ``high``."""
    values = [(entity, round(measure(entity), 9)) for entity in entities]
    return [Drop(rule=rule, entity=e, value=v) for e, v in values if not low <= v <= high]


def _too_many(entities: tuple[FoundEntity, ...], thresholds: Thresholds) -> list[Drop]:
    """Rule 4: all subjects of a label that has too many boxes; upper and lower case are one."""
    counts = Counter(entity.label.casefold() for entity in entities)
    return [
        Drop(rule="per_label", entity=entity, value=float(counts[entity.label.casefold()]))
        for entity in entities
        if counts[entity.label.casefold()] > thresholds.max_per_label
    ]


def _doubles(entities: tuple[FoundEntity, ...], thresholds: Thresholds) -> list[Drop]:
    """Rule 3, of whatever labels: from the highest score down (of equal ones the first first), a
    subject goes that overlaps one that stays. The value is the largest such overlap."""
    kept: list[FoundEntity] = []
    found = []
    for entity in sorted(entities, key=lambda each: -each.score):
        overlap = round(max((iou(entity.box_xyxy, e.box_xyxy) for e in kept), default=0.0), 9)
        if overlap > thresholds.max_iou:
            found.append(Drop(rule="iou", entity=entity, value=overlap))
        else:
            kept.append(entity)
    return found


def _without(entities: tuple[FoundEntity, ...], dropped: list[Drop]) -> tuple[FoundEntity, ...]:
    gone = {id(drop.entity) for drop in dropped}
    return tuple(entity for entity in entities if id(entity) not in gone)


def _left(record: Record, entities: tuple[FoundEntity, ...], dropped: list[Drop]) -> Decision:
    if entities:
        return Decision(record=replace(record, entities=entities), dropped=tuple(dropped))
    none = Drop(rule="no_subjects", entity=None, value=0.0)
    return Decision(record=None, dropped=(*dropped, none))
