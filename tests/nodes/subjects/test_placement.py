"""Layout's modes: places from the reference pictures and at random."""

from __future__ import annotations

import logging

import pytest
from placing import edges, make_subject
from subject_diffusion_pack.nodes.subjects.boxes import Box
from subject_diffusion_pack.nodes.subjects.placement import overlap, place_subjects
from subject_diffusion_pack.nodes.subjects.subject import Subjects


def layout(subjects: Subjects, mode: str = "given", seed: int = 0) -> Subjects:
    return place_subjects(subjects, mode, seed, 128, 128)


def test_given_is_the_default_and_adds_nothing() -> None:
    (placed,) = layout((make_subject(mask=None),))
    assert placed.box is None


def test_reference_fits_the_picture_into_the_frame() -> None:
    """80 x 40 into 128 x 128: scaled by 1.6, 32 pixels above and below."""
    placed = layout((make_subject(mask=(20, 10, 60, 40)),), "reference")
    wanted = (32 / 128, (32 + 16) / 128, 96 / 128, (32 + 64) / 128)
    assert edges(placed) == [pytest.approx(wanted)]


def test_reference_without_a_mask() -> None:
    with pytest.raises(ValueError, match=r"Subject 1 has no mask: expected one that shows"):
        layout((make_subject(mask=None),), "reference")


def test_random_is_decided_by_the_seed() -> None:
    subjects = (make_subject(mask=(0, 0, 40, 40)),) * 2
    first, again, other = (edges(layout(subjects, "random", seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_random_places_lie_inside_and_keep_the_proportions(count: int) -> None:
    subjects = (make_subject(mask=(0, 10, 60, 40)),) * count  # twice as wide as high
    for seed in range(20):
        places = edges(layout(subjects, "random", seed))
        for x1, y1, x2, y2 in places:
            assert 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
            assert (x2 - x1) / (y2 - y1) == pytest.approx(2.0, rel=1e-6)


def test_two_random_places_hardly_overlap() -> None:
    subjects = (make_subject(mask=(0, 0, 40, 40)),) * 2
    worst = 0.0
    for seed in range(50):
        worst = max(worst, overlap(*edges(layout(subjects, "random", seed))))
    assert worst < 0.35


def test_a_written_box_stays_and_others_keep_away() -> None:
    box = Box(x1=0.0, y1=0.0, x2=0.5, y2=1.0)
    subjects = (make_subject(mask=None, box=box), make_subject(mask=(0, 0, 20, 40)))
    for seed in range(20):
        first, second = edges(layout(subjects, "random", seed))
        assert first == (0.0, 0.0, 0.5, 1.0)
        assert overlap(first, second) < 0.1


def test_places_on_top_of_each_other_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    subjects = (make_subject(mask=(20, 10, 60, 40)),) * 2
    with caplog.at_level(logging.WARNING):
        layout(subjects, "reference")
    assert "overlaps another subject's (IoU 1.00)" in caplog.text
