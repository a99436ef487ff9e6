"""What the sweep of w_s chooses, and what the report takes."""

from __future__ import annotations

import re
from argparse import Namespace

import numpy as np
import pytest

from benchmarks.tuned_subjects.__main__ import chosen_regularization
from benchmarks.tuned_subjects.regularization import best_regularization, choice
from benchmarks.tuned_subjects.rows import REGULARIZATIONS, TEXT


def swept(cosines: dict[float, float]) -> dict[str, dict[str, np.ndarray]]:
    """The sweep's scores of six subjects, half of whose pictures show their scene."""
    rows = {f"w_s {value:g}": cosine for value, cosine in cosines.items()} | {TEXT: 0.3}
    scenes = {"scene": np.full((6, 1), 0.5)}
    return {name: {"cosine": np.full((6, 1), cosine)} | scenes for name, cosine in rows.items()}


def test_the_sweep_chooses_a_positive_weight_that_keeps_subject_and_prompt():
    scores = swept(dict(zip(REGULARIZATIONS, (0.9, 0.5, 0.4, 0.3), strict=True)))
    assert best_regularization(scores) == 0.001
    scores["w_s 0.001"]["scene"] = np.full((6, 1), 0.1)  # it forgot most prompts
    assert best_regularization(scores) == 0.01
    scores["w_s 0.1"]["scene"] = np.full((6, 1), 100.0)  # but it learned nothing
    assert best_regularization(scores) == 0.01


def test_the_sweep_says_how_certain_its_choice_is():
    scores = swept(dict.fromkeys(REGULARIZATIONS, 0.3))
    for value, gains in ((0.01, [0.2, 0.2, 0.2, 0.2, 0.2, 0.2]), (0.1, [1.0, 0, 0, 0, 0, 0])):
        scores[f"w_s {value:g}"]["cosine"] = 0.3 + np.array([gains]).T
    lines = choice(scores)
    assert lines[0].startswith("- w_s 0.001: likeness beyond text times scenes 0.0000, the best in")
    wins = [int(re.findall(r"best in (\d+)%", line)[0]) for line in lines]
    assert wins[0] == 0 and 40 < wins[1] < 100 and wins[1] + wins[2] == 100


def test_losing_likeness_and_scenes_is_no_gain():
    scores = swept({0.0: 0.3, 0.001: 0.2, 0.01: 0.2, 0.1: 0.2})
    scores["w_s 0.1"]["scene"] = np.zeros((6, 1))  # less of a loss times scenes, no gain
    assert best_regularization(scores) == 0.001
    lines = choice(scores)
    assert all("the best in 0% of" in line for line in lines[:-1])
    assert lines[-1] == "- In 100% of the draws no w_s gains likeness."


def test_the_report_takes_the_sweeps_weight(tmp_path):
    with pytest.raises(SystemExit, match="Run sweep with the same --out first"):
        chosen_regularization(Namespace(regularization=None, out=tmp_path))
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "best.json").write_text("0.01", encoding="utf-8")
    assert chosen_regularization(Namespace(regularization=None, out=tmp_path)) == 0.01
    assert chosen_regularization(Namespace(regularization=0.5, out=tmp_path)) == 0.5
