"""Every rule of appendix B.1 by hand-made pictures; their order."""

from __future__ import annotations

import numpy as np
import pytest

from training.curation.filters import (
    Decision,
    Thresholds,
    filter_entities,
    filter_masks,
    filter_resolution,
)
from training.curation.record import FoundEntity, PictureSource, Record
from training.curation.record_masks import run_lengths

LIMITS = Thresholds()


def entity(label: str, *box: float, **more: object) -> FoundEntity:
    assert len(box) == 4
    return FoundEntity(label=label, box_xyxy=box, **more)  # type: ignore[arg-type]


def record(*entities: FoundEntity, width: int = 200, height: int = 100) -> Record:
    source = PictureSource(path="a.png")
    return Record(key="a", picture=source, width=width, height=height, entities=entities)


def rules(decision: Decision) -> list[str]:
    return [drop.rule for drop in decision.dropped]


GOOD = entity("good", 0.1, 0.1, 0.4, 0.7)


@pytest.mark.parametrize(
    ("bad", "rule", "value"),
    [
        (entity("a", 0, 0, 0.5, 0.5, is_group=True), "group", 1),
        (entity("a", 0, 0, 0.5, 0.5, is_body_part=True), "body_part", 1),
        (entity("a", 0.5, 0, 1, 0.5, score=0.19), "score", 0.19),
        (entity("a", 0, 0, 0.8, 0.4), "aspect", 4),
        (entity("a", 0.1, 0.1, 0.4, 0.71, score=0.9), "iou", 60 / 61),
    ],
)
def test_a_rule_drops_its_subject_alone(bad: FoundEntity, rule: str, value: float) -> None:
    decision = filter_entities(record(bad, GOOD), LIMITS)
    assert decision.record == record(GOOD)
    (drop,) = decision.dropped
    assert (drop.rule, drop.entity) == (rule, bad) and drop.value == pytest.approx(value)


def test_a_box_of_a_wrong_size_drops_the_picture() -> None:
    decision = filter_entities(record(GOOD, entity("a", 0, 0, 0.2, 0.2)), LIMITS)
    assert decision.record is None and rules(decision) == ["area"]


def test_what_an_earlier_rule_took_drops_no_picture() -> None:
    small = entity("a", 0, 0, 0.2, 0.2, score=0.1)
    decision = filter_entities(record(GOOD, small), LIMITS)
    assert decision.record == record(GOOD) and rules(decision) == ["score"]


def test_six_of_a_label_go_and_five_stay() -> None:
    many = [entity("Cup" if i % 2 else "cup", i / 8, 0, i / 8 + 0.125, 0.5) for i in range(6)]
    assert filter_entities(record(*many[:5]), LIMITS).record == record(*many[:5])
    decision = filter_entities(record(*many, GOOD), LIMITS)
    assert decision.record == record(GOOD) and rules(decision) == ["per_label"] * 6


def test_limits_belong_to_what_is_kept() -> None:
    edges = Thresholds(min_area=0.125, max_area=0.5, max_aspect=1.0)
    kept = record(entity("a", 0, 0, 0.25, 0.5), entity("b", 0, 0, 0.5, 1))
    assert filter_entities(kept, edges).record == kept


def test_nothing_left_drops_the_picture() -> None:
    decision = filter_entities(record(entity("a", 0, 0, 0.8, 0.4)), LIMITS)
    assert decision.record is None and rules(decision) == ["aspect", "no_subjects"]
    assert rules(filter_entities(record(), LIMITS)) == ["no_subjects"]


@pytest.mark.parametrize(("filled", "kept"), [(36, True), (35, False)])
def test_a_thin_mask_drops_the_picture(filled: int, kept: bool) -> None:
    mask = np.zeros((100, 200), bool)
    mask[10 : 10 + filled, 20:80] = True
    thin = entity("a", 0.1, 0.1, 0.4, 0.7, mask=run_lengths(mask))
    full = entity("b", 0.1, 0.1, 0.4, 0.7, mask=run_lengths(np.ones((100, 200), bool)))
    decision = filter_masks(record(full, thin), LIMITS)
    assert (decision.record is not None) == kept
    assert rules(decision) == ([] if kept else ["mask_share"])


def test_the_smaller_side_counts() -> None:
    assert filter_resolution(record(width=1024, height=5000), LIMITS).record is not None
    decision = filter_resolution(record(width=1023, height=5000), LIMITS)
    assert decision.record is None and decision.dropped[0].value == 1023


def test_limits_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^min_aspect: expected 0 to below max_aspect, 3.0, got"):
        Thresholds(min_aspect=4)
