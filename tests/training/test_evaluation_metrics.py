"""Scores by hand-computed cases: ranks, angles, intervals, swap."""

from dataclasses import fields, replace

import numpy as np
import pytest

from training.evaluation.gallery import Gallery, near_views
from training.evaluation.metrics import (
    bootstrap,
    lead_over_controls,
    look_up,
    mean_interval,
    share_of_bound,
    swap_scores,
)
from training.evaluation.report import criteria
from training.evaluation.rows import ROWS
from training.evaluation.scoring import RowScores
from training.evaluation.tinybench import RowResult


def direction(azimuth_deg: float) -> list[float]:
    azimuth = np.radians(azimuth_deg)
    return [float(np.sin(azimuth)), 0.0, float(np.cos(azimuth))]


def small_gallery() -> Gallery:
    """A cup with three views, a hat with one, an emoji; features are axes of a 5-space."""
    nothing = [np.nan] * 3
    views = [direction(0), direction(31), direction(90), direction(0), nothing]
    return Gallery(
        features=np.eye(5, dtype=np.float32),
        rows=np.arange(5),
        views=np.array(views),
        identities=["cup", "hat", "owl"],
        identity_of=np.array([0, 0, 0, 1, 2]),
    )


def test_views_at_most_thirty_degrees_apart_are_near():
    reference = np.array([direction(0)])
    others = np.array([direction(29), direction(31), direction(-29), direction(180), [np.nan] * 3])
    assert near_views(reference, others).tolist() == [[True, False, True, False, False]]


def test_a_reference_without_view_is_near_to_nothing():
    assert not near_views(np.full((1, 3), np.nan), np.array([direction(0)])).any()


def test_near_views_of_every_identity_are_left_out():
    feature = np.array([[0.5, 0.1, 0.2, 0.7, 0.4]], np.float32)
    best = gallery_best(feature, direction(0))
    assert best == pytest.approx([0.2, -np.inf, 0.4])  # 0.5 and 0.7 are near, the hat has no other
    best = gallery_best(feature, [np.nan] * 3)
    assert best == pytest.approx([0.5, 0.7, 0.4])


def gallery_best(feature: np.ndarray, reference_view: list[float]) -> list[float]:
    gallery = small_gallery()
    similarities = gallery.similarities(feature, np.array([reference_view]))
    return gallery.best_by_identity(similarities)[0].tolist()


def test_top1_counts_an_identity_by_its_best_view():
    best = np.array([[0.9, 0.3, 0.2], [0.5, 0.8, 0.1], [0.3, 0.2, 0.1]])
    rank, cosine = look_up(best, np.array([0, 0, 2]))
    assert rank.tolist() == [0, 1, 2]
    assert cosine == pytest.approx([0.9, 0.5, 0.1])


def test_bootstrap_is_deterministic_and_brackets_the_mean():
    values = np.array([1.0] * 30 + [0.0] * 70)
    first, second = mean_interval(values), mean_interval(values)
    assert first == second
    assert first.value == pytest.approx(0.3)
    # 0.3 +- 1.96 * sqrt(0.3 * 0.7 / 100) = 0.21 .. 0.39
    assert first.low == pytest.approx(0.21, abs=0.02)
    assert first.high == pytest.approx(0.39, abs=0.02)


def test_paired_bootstrap_of_equal_rows_has_no_spread():
    values = np.random.default_rng(0).random(50)
    interval = bootstrap(lambda first, second: first - second, values, values)
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_mean_of_nothing_is_none():
    assert mean_interval(np.zeros(0)) is None


def test_lead_subtracts_three_times_the_better_control():
    found = np.array([1.0, 1.0, 1.0, 0.0] * 25)
    text_only = np.zeros(100)
    shuffled = np.array([1.0] + [0.0] * 9, np.float64).repeat(10)
    lead = lead_over_controls(found, [text_only, shuffled])
    assert lead.value == pytest.approx(0.75 - 3 * 0.1)
    assert lead.low < lead.value < lead.high


def test_share_of_a_bound_is_paired():
    bound = np.array([1.0, 1.0, 1.0, 0.0] * 25)
    share = share_of_bound(np.array([1.0, 1.0, 0.0, 0.0] * 25), bound)
    assert share.value == pytest.approx(2 / 3)
    assert share.low < share.value < share.high
    same = share_of_bound(bound, bound)
    assert (same.low, same.high) == (1.0, 1.0)


def test_swap_needs_both_pictures_for_the_pair():
    own = np.array([0.9, 0.8, 0.9, 0.2, 0.1, 0.1])
    twin = np.array([0.1, 0.1, 0.1, 0.7, 0.7, 0.7])
    scores = swap_scores(own, twin)
    assert scores["per_picture"].value == pytest.approx(3 / 6)
    assert scores["both"].value == pytest.approx(1 / 3)


def test_a_tie_is_not_right():
    tie = np.array([0.5, 0.5])
    assert swap_scores(tie, tie)["per_picture"].value == 0.0


def test_targets_name_what_is_missed():
    def exactly(value):
        return mean_interval(np.full(4, value))

    own = {"box_iou": exactly(0.59), "group": exactly(0.5), "scene": exactly(0.85)}
    text = {"group": exactly(0.5), "scene": exactly(0.95)}
    seen = {"scene": exactly(0.86)}
    result = {
        "rows": {
            "two_subjects": {"scores": own},
            "two_text_only": {"scores": text},
            "one_seen_scene": {"scores": seen},
            "one_seen_text_only": {"scores": text},
        },
        "bound_shares": {"two_subjects": exactly(0.41), "one_subject": exactly(0.59)},
        "swap": {"per_picture": exactly(0.8)},
        "leads": {"two": exactly(0.1)},
    }
    assert criteria(result) == {
        "one_subject": False,
        "two_subjects": True,
        "swap": True,
        "two_box_iou": False,
        "two_group": True,
        "two_scene": False,
        "one_seen_scene": True,
        "lead_two": True,
    }


def test_label_groups_are_told_apart_by_labels_of_training() -> None:
    seen = np.array([[True, False], [True, True]])
    scores = RowScores(
        **{field.name: np.zeros((2, 2)) for field in fields(RowScores)} | {"is_seen": seen}
    )
    nothing = np.zeros(0)
    before = RowResult(
        row=ROWS[0], queries=[], pictures=nothing, features=nothing, scores=scores, matches={}
    )
    assert before.groups_by_label() == {}
    measured = replace(before, groups=np.array([[1.0, 0.0], [1.0, 0.0]]))
    values = measured.groups_by_label()
    assert values["group_seen"].value == pytest.approx(2 / 3)
    assert values["group_unseen"].value == 0
    known = replace(measured, scores=replace(scores, is_seen=np.ones((2, 2), bool)))
    assert known.groups_by_label()["group_unseen"] is None
