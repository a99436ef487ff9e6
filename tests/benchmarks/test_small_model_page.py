"""What `python -m benchmarks.small_model_page` writes."""

from __future__ import annotations

from typing import Any

from benchmarks.measured_page import with_table
from benchmarks.small_model_page import identity_table, match_table


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def measured(**scores: float) -> dict[str, Any]:
    return {"scores": {name: interval(value) for name, value in scores.items()}}


RESULT = {
    "rows": {
        "one_subject": measured(
            top1=0.52, top5=0.73, cosine=0.6131, box_iou=0.7, group=0.3, scene=0.1
        ),
        "one_seen_text_only": measured(
            top1=0, top5=0, cosine=0.3, box_iou=0.4, group=0.2, scene=0.4
        ),
        "two_real_vae": measured(top1=0.55, top5=0.755, cosine=0.659),
    },
    "bound_shares": {"one_subject": interval(0.698)},
}


def test_measured_rows_stand_in_the_page() -> None:
    identity = identity_table(RESULT)
    assert identity[2:] == [
        "| one subject | 52.0 [42.0, 62.0] | 73.0 [63.0, 83.0] | 0.613 | 70 [60, 80] |",
        "| bound: real through the VAE | 55.0 [45.0, 65.0] | 75.5 [65.5, 85.5] | 0.659 | - |",
    ]
    assert match_table(RESULT)[2:] == [
        "| one subject | 0.70 [0.60, 0.80] | 30.0 [20.0, 40.0] | 10.0 [0.0, 20.0] |",
        "| the same: text only | - | 20.0 [10.0, 30.0] | 40.0 [30.0, 50.0] |",
    ]


def test_a_page_gets_its_second_table() -> None:
    page = "| a |\n|---|\n| b |\n\ntext\n\n| c |\n|---|\nend"
    assert with_table(page, ["| new |"], 1) == "| a |\n|---|\n| b |\n\ntext\n\n| new |\nend"
