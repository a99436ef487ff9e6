"""Layout's modes: places from the reference pictures and at random."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from host_models import Host


def subject(host: Host, *, mask: tuple[int, int, int, int] | None, box: Any = None) -> Any:
    """A subject in a picture of 80 x 40 pixels (width x height)."""
    masks = None
    if mask is not None:
        masks = torch.zeros(1, 40, 80)
        masks[:, mask[1] : mask[3], mask[0] : mask[2]] = 1
    return host.subject.Subject(
        name="Subject 1",
        images=torch.rand(1, 40, 80, 3),
        masks=masks,
        label="dog",
        box=box,
        strength=1.0,
    )


def layout(host: Host, subjects: tuple[Any, ...], *options: Any, size: int = 128) -> Any:
    return host.layout_node.SubjectDiffusionLayout.execute(subjects, size, size, *options)[0]


def edges(subjects: tuple[Any, ...]) -> list[tuple[float, ...]]:
    return [entry.box.edges for entry in subjects]


def test_given_is_the_default_and_adds_nothing(host: Host) -> None:
    (placed,) = layout(host, (subject(host, mask=None),))
    assert placed.box is None


def test_reference_fits_the_picture_into_the_frame(host: Host) -> None:
    """80 x 40 into 128 x 128: scaled by 1.6, 32 pixels above and below."""
    placed = layout(host, (subject(host, mask=(20, 10, 60, 40)),), "reference")
    wanted = (32 / 128, (32 + 16) / 128, 96 / 128, (32 + 64) / 128)
    assert edges(placed) == [pytest.approx(wanted)]


def test_reference_without_a_mask(host: Host) -> None:
    with pytest.raises(ValueError, match=r"Subject 1 has no mask: expected one that shows"):
        layout(host, (subject(host, mask=None),), "reference")


def test_random_is_decided_by_the_seed(host: Host) -> None:
    subjects = (subject(host, mask=(0, 0, 40, 40)),) * 2
    first, again, other = (edges(layout(host, subjects, "random", seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_random_places_lie_inside_and_keep_the_proportions(host: Host, count: int) -> None:
    subjects = (subject(host, mask=(0, 10, 60, 40)),) * count  # twice as wide as high
    for seed in range(20):
        places = edges(layout(host, subjects, "random", seed))
        for x1, y1, x2, y2 in places:
            assert 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1
            assert (x2 - x1) / (y2 - y1) == pytest.approx(2.0, rel=1e-6)


def test_two_random_places_hardly_overlap(host: Host) -> None:
    subjects = (subject(host, mask=(0, 0, 40, 40)),) * 2
    worst = 0.0
    for seed in range(50):
        worst = max(worst, host.placement.overlap(*edges(layout(host, subjects, "random", seed))))
    assert worst < 0.35


def test_a_written_box_stays_and_others_keep_away(host: Host) -> None:
    box = host.boxes.Box(x1=0.0, y1=0.0, x2=0.5, y2=1.0)
    subjects = (subject(host, mask=None, box=box), subject(host, mask=(0, 0, 20, 40)))
    for seed in range(20):
        first, second = edges(layout(host, subjects, "random", seed))
        assert first == (0.0, 0.0, 0.5, 1.0)
        assert host.placement.overlap(first, second) < 0.1


def test_places_on_top_of_each_other_are_a_warning(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    subjects = (subject(host, mask=(20, 10, 60, 40)),) * 2
    with caplog.at_level(logging.WARNING):
        layout(host, subjects, "reference")
    assert "overlaps another subject's (IoU 1.00)" in caplog.text
