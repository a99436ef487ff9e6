"""A subject's pictures, masks, label and region, as they are checked where they come in."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from subject_diffusion_pack.nodes.subjects import subject
from subject_diffusion_pack.nodes.subjects.boxes import box_around, parse_box
from subject_diffusion_pack.nodes.subjects.subject import Subject, checked_region


def make_subject(
    mask: torch.Tensor | None = None, *, views: int = 1, channels: int = 3, label: str = "dog"
) -> Subject:
    image = torch.rand(views, 20, 30, channels)
    box = parse_box("0,0,1,1", "Subject 1")
    return subject.make_subject(image, mask, label, box, 1.0, "Subject 1")


def test_masks() -> None:
    mask = torch.zeros(1, 20, 30)
    mask[:, 5:10, 5:10] = 1
    assert masks_of(make_subject(mask, views=3)).shape == (3, 20, 30)
    assert masks_of(make_subject(mask[0])).shape == (1, 20, 30)
    # Load Image's mask of a picture without transparency, and the same through Invert Mask
    assert make_subject(torch.zeros(1, 64, 64)).masks is None
    assert make_subject(torch.ones(1, 64, 64)).masks is None
    with pytest.raises(ValueError, match=r"expected 1 mask or one per view \(3\), got 2"):
        make_subject(mask.expand(2, -1, -1), views=3)


def masks_of(made: Subject) -> torch.Tensor:
    assert made.masks is not None
    return made.masks


def test_alpha_channel_and_spaces() -> None:
    made = make_subject(channels=4, label="  fire \n truck ")
    assert made.images.shape == (1, 20, 30, 3)
    assert made.label == "fire truck"


@pytest.mark.parametrize(
    ("region", "sentence"),
    [
        (torch.zeros(1, 64, 64), r"Subject 1's region: expected 1 where .* without any value"),
        (torch.full((1, 8, 8), 0.3), r"Subject 1's region: expected 1 where .* above 0\.5"),
        (torch.ones(2, 8, 8), r"Subject 1's region: expected one mask .*, got 2\."),
        (torch.full((1, 8, 8), torch.nan), r"Subject 1's region: expected numbers from 0 to 1"),
    ],
)
def test_bad_regions(region: torch.Tensor, sentence: str) -> None:
    def take(given: torch.Tensor) -> Any:
        return box_around(checked_region(given, "Subject 1"), "Subject 1", "region")

    with pytest.raises(ValueError, match=sentence):
        take(region)
