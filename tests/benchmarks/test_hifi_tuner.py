"""The tables of HiFi Tuner's bench: what is compared with what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from one_query import QUERY, SUBJECT

from benchmarks.hifi_tuner import inversion, replacement, timed


def test_inversion_is_compared_with_the_autoencoder_picture_by_picture() -> None:
    figures = np.array([[30.0] + [29.0] * 5 + [20.0], [32.0] + [31.5] * 5 + [31.0]])
    lines = inversion.table(figures, 50)
    assert lines[0].startswith("2 real composites") and "50 steps" in lines[0]
    assert "| 31.00 [" in lines[4] and "| 30.00 |" in lines[4]
    assert len(lines) == 5 + len(inversion.WAYS)
    best, last = lines[5], lines[-1]
    assert "| 0.75 [" in best and best.endswith("| 1.00 |")
    assert "| 25.50 [" in last and "| 20.00 |" in last and last.endswith("| 10.00 |")


def test_replacement_is_measured_inside_the_box_and_outside() -> None:
    old = np.zeros((2, 128, 128, 3), np.uint8)
    new = old.copy()
    new[:, 64:, 32:96] = 60
    new[:, :64] = 3
    made = [new] * len(replacement.SETTINGS)
    queries = [QUERY, replace(QUERY, index=1)]
    lines = replacement.table(old, made, queries, 20)
    inside, outside, ratio = (float(cell.split()[0]) for cell in lines[4].split(" | ")[1:])
    assert inside == 60.0
    assert outside == pytest.approx(3 * 64 * 128 / (128 * 128 - 64 * 64), abs=0.05)
    assert ratio == pytest.approx(60 / 2.0, abs=0.05)


def test_the_graph_replaces_the_label_in_the_subjects_place() -> None:
    other = replace(QUERY, subjects=(replace(SUBJECT, label="owl"),))
    graph = replacement.replacement_graph(QUERY, other, 20, replacement.SETTINGS[-1])
    inputs = graph["replace"]["inputs"]
    assert (inputs["caption"], inputs["word"], inputs["replacement"]) == (
        "a crab on a beach",
        "crab",
        "owl",
    )
    assert inputs["mask"] == ["place", 0]
    assert graph["subject"]["inputs"]["box"] == "0.250000,0.500000,0.750000,1.000000"


def test_times_are_in_plain_steps_and_pictures() -> None:
    lines = timed.in_plain_steps(plain=2.0, tuning=3.0, inversion=1.0, guided=20.0, replacing=30.0)
    assert list(lines.values()) == [
        2.0, 1.5, 0.5, 10.0, 15.0,
        pytest.approx((50 + 50 * 0.5 + 19 + 31 * 10) / 50),
    ]  # fmt: skip
    assert timed.spread([1.0, 4.0, 2.0]) == "2.00 (1.00 to 4.00)"
