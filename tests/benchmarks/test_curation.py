"""The filters beside slow, obvious ones; `python -m benchmarks.curation filters` takes 10,000."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.curation.__main__ import main
from benchmarks.curation.comparing import as_verdict, compare, run_filters, same
from benchmarks.curation.detections import draw_detections
from benchmarks.curation.obvious_filters import judge
from training.curation.filters import ENTITY_RULES, PICTURE_RULES, Thresholds
from training.curation.record import FoundEntity, PictureSource, Record
from training.curation.record_masks import run_lengths

LIMITS = Thresholds(min_side=0)
EDGES = {
    "aspect": (0.0, 0.0, 0.75, 0.25),
    "area": (0.25, 0.25, 0.5, 0.45),
    "largest area": (0.0, 0.0, 0.7, 1.0),
}


def test_every_decision_is_the_obvious_one() -> None:
    found = compare(draw_detections(400, seed=1), LIMITS)
    assert found.different == [] and found.pictures == 400
    assert 50 < found.kept < 350
    assert set(found.by_rule) == {*ENTITY_RULES, *PICTURE_RULES} - {"resolution"}
    assert min(found.by_rule.values()) >= 10, "each rule has decided something"


@pytest.mark.parametrize(
    "change",
    [{"min_aspect": 0.4}, {"max_aspect": 2.5}, {"min_area": 0.04}, {"max_area": 0.8},
     {"max_iou": 0.7}, {"max_per_label": 4}, {"min_score": 0.25}, {"min_mask_share": 0.5},
     {"min_side": 96}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_another_limit_is_seen(change: dict[str, float]) -> None:
    other = replace(LIMITS, **change)  # type: ignore[arg-type]
    different = [
        record.key for record in draw_detections(400, seed=1)
        if not same(judge(record, LIMITS), as_verdict(record, run_filters(record, other)))
    ]  # fmt: skip
    assert different


@pytest.mark.parametrize("box", EDGES.values(), ids=EDGES)
def test_what_stands_on_a_limit_is_kept_by_both(box: tuple[float, float, float, float]) -> None:
    mask = run_lengths(np.ones((100, 100), bool))
    entity = FoundEntity(label="a", box_xyxy=box, mask=mask, score=0.2)
    source = PictureSource(path="a.png")
    record = Record(key="a", picture=source, width=100, height=100, entities=(entity,))
    assert judge(record, LIMITS).kept == (0,)
    assert run_filters(record, LIMITS).record == record


def test_the_command_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filters", "--count", "40"]) == 0
    assert "40 pictures, 0 decided differently" in capsys.readouterr().out
