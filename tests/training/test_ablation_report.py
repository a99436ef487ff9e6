"""Differences and what is said of them, by small cases with known answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.ablation.report import (
    differences,
    markdown,
    purpose_lines,
    verdict_lines,
    write_report,
)
from benchmarks.ablation.variants import PAPER, VARIANTS, paper_change

NUM_QUERIES = 40
SETTINGS = {
    "start": "fresh",
    "stage": {"steps": 3, "global_batch_size": 32, "learning_rate": 8e-4},
    "sampling": {"steps": 20, "precision": "float32"},
}


def row(top1: float, box_iou: float = 0.5) -> dict[str, np.ndarray]:
    """A row in which the share ``top1`` of the queries is found."""
    found = (np.arange(NUM_QUERIES) < top1 * NUM_QUERIES).astype(float)
    return {"top1": found, "cosine": 0.3 + 0.5 * found, "box_iou": np.full(NUM_QUERIES, box_iou)}


def scores(**top1: float) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    rows = ("one_subject", "two_subjects")
    return {name: {r: row(share) for r in rows} for name, share in top1.items()}


def test_the_papers_numbers_are_those_of_its_table_3() -> None:
    one, two = (
        [paper_change(r, v, "dino") for v in VARIANTS] for r in ("one_subject", "two_subjects")
    )
    assert one == [None, -0.017, 0.021, -0.177, -0.019, -0.074, None, None, None]
    assert two == [None, -0.029, -0.042, -0.095, -0.006, -0.049, None, None, None]
    assert PAPER["one_subject"]["g"]["clip_t"] > PAPER["one_subject"]["a"]["clip_t"]


@pytest.mark.parametrize(
    ("variant", "top1", "verdict"),
    [
        ("no_adapter", 0.1, "as in the paper"),
        ("no_adapter", 0.9, "the other way"),
        ("no_adapter", 0.5, "not told apart"),
        ("no_box_coordinates", 0.1, "the other way"),  # the paper's DINO rises without them
        ("plain_l1_map_loss", 0.1, "not in the paper"),
    ],
)
def test_directions_beside_the_papers(variant: str, top1: float, verdict: str) -> None:
    measured = differences(scores(full=0.5, **{variant: top1}))
    (one,) = [d for d in measured if d.row == "one_subject" and d.score == "top1"]
    assert one.verdict == verdict
    assert one.interval.value == pytest.approx(top1 - 0.5)


def test_boxes_have_no_counterpart_in_the_paper() -> None:
    measured = differences(scores(full=0.5, no_location_control=0.5))
    assert {d.verdict for d in measured if d.score == "box_iou"} == {"not in the paper"}


def test_differences_are_paired_by_query() -> None:
    full, own = row(0.5), row(0.45)
    paired = {"full": {"one_subject": full}, "no_adapter": {"one_subject": own}}
    (top1,) = [d for d in differences(paired) if d.score == "top1"]
    # 2 of 40 queries are lost and none is won, so no resample can be above zero
    assert top1.interval.high <= 0 and top1.interval.low > -0.2


def test_a_row_that_goes_the_other_way_is_named() -> None:
    text = "\n".join(verdict_lines(differences(scores(full=0.5, no_adapter=0.9))))
    other, same = text.split("The same way as in the paper:")
    assert "without adapter layer, one subject: top-1 **+0.400" in other
    assert "the paper's DINO fell from 0.711 to 0.534" in other
    assert "- none." in same


def test_what_each_part_is_for() -> None:
    values = scores(full=0.5, no_adapter=0.1, no_image_cls=0.5, no_location_control=0.5)
    values["no_location_control"] = dict.fromkeys(("one_subject", "two_subjects"), row(0.5, 0.2))
    lines = purpose_lines(differences(values))
    assert any("location control, one subject, box IoU falls: yes, **-0.300" in x for x in lines)
    assert any("adapter layer, two subjects, top-1 falls: yes" in x for x in lines)
    assert any("image CLS, one subject, top-1 falls: NO" in x for x in lines)


def test_the_full_model_alone_makes_a_report(tmp_path: Path) -> None:
    write_report(SETTINGS, scores(full=0.5), tmp_path)
    assert "| full | 40 | 0.500 [" in (tmp_path / "ablation.md").read_text()
    assert "Difference to the full model" not in markdown(SETTINGS, scores(full=0.5))


def test_a_part_beside_another_that_is_missing_too() -> None:
    """It is compared with the variant that lacks only the other part, and the table says so."""
    values = scores(full=0.9, no_adapter=0.5, no_adapter_no_image_cls=0.4)
    (top1,) = (
        d
        for d in differences(values)
        if (d.variant, d.row, d.score) == ("no_adapter_no_image_cls", "one_subject", "top1")
    )
    assert top1.interval.value == pytest.approx(-0.1)
    assert top1.verdict == "not in the paper"
    text = markdown(SETTINGS, values)
    assert "without adapter layer and image CLS, compared with the one without adapter" in text
