"""A subject's pictures, masks, label and region, as they are checked where they come in."""

from __future__ import annotations

from dataclasses import replace
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
    assert masks_of(make_subject(mask)).shape == (1, 20, 30)
    # Load Image's mask of a picture without transparency, and the same through Invert Mask
    assert make_subject(torch.zeros(1, 64, 64)).masks is None
    assert make_subject(torch.ones(1, 64, 64)).masks is None
    with pytest.raises(ValueError, match=r"expected 1 mask or one per view \(3\), got 2"):
        make_subject(mask.expand(2, -1, -1), views=3)


def test_what_a_mask_marks() -> None:
    """Mask Editor marks what was painted; Load Image's mask of a cut-out marks what is cut away."""
    painted = torch.zeros(1, 20, 30)
    painted[:, 5:10, 5:10] = 1
    said: list[str] = []

    def take(mask: torch.Tensor, marks: str) -> torch.Tensor:
        image = torch.rand(1, 20, 30, 3)
        said.clear()
        arguments = (image, mask, "dog", None, 1.0, "Subject 1", marks, said.append)
        return masks_of(subject.make_subject(*arguments))

    for mask, marks in ((painted, "subject"), (1 - painted, "background")):
        assert torch.equal(take(mask, marks), painted) and said == []
    for mask, name in ((painted, "subject"), (1 - painted, "background")):
        assert torch.equal(take(mask, "guess"), painted)
        assert len(said) == 1 and f"took it for that of the {name}" in said[0]
    assert torch.equal(take(1 - painted, "subject"), 1 - painted)
    assert "as that of a background does" in said[0]
    with pytest.raises(ValueError, match="mask_marks: expected subject, background, guess, got"):
        take(painted, "hole")


def test_alpha_is_a_mask() -> None:
    image = torch.rand(2, 20, 30, 4)
    image[..., 3] = 0
    image[:, 5:10, 5:10, 3] = 1
    made = subject.make_subject(image, None, "dog", None, 1.0, "Subject 1")
    assert torch.equal(masks_of(made), image[..., 3])
    mask = torch.zeros(1, 20, 30)
    mask[:, :3] = 1
    connected = subject.make_subject(image, mask, "dog", None, 1.0, "Subject 1")
    assert torch.equal(masks_of(connected)[0], mask[0])
    image[..., 3] = 1
    assert subject.make_subject(image, None, "dog", None, 1.0, "Subject 1").masks is None
    image[..., 3] = 0
    with pytest.raises(ValueError, match=r"Subject 1's mask: .* got a mask that is empty"):
        subject.make_subject(image, None, "dog", None, 1.0, "Subject 1")


def test_an_animation_counts_with_its_first_views() -> None:
    image, mask = torch.rand(63, 4, 5, 3), torch.ones(63, 4, 5)
    said: list[str] = []
    made = subject.make_subject(image, mask, "dog", None, 1.0, "Subject 1", "subject", said.append)
    assert torch.equal(made.images, image[:8]) and masks_of(made).shape == (8, 4, 5)
    assert "Subject 1's image: 63 pictures, of which the first 8 are used." in said[0]


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("embedding:easynegative", r"Subject 1's label: .* got the name of an embedding"),
        ("a embedding:x", r"Subject 1's label: .* got the name of an embedding"),
        ("dog" * 4_000_000, r"Subject 1's label: expected at most 1000 characters, got 12000000"),
        ("dog \ud800", r"Subject 1's label: expected text, got half of a surrogate pair at char"),
    ],
)
def test_labels_that_are_none(label: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        make_subject(label=label)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"strength": -3.0}, r"Subject 1's strength: expected a number from 0 to 16, got -3\.0\."),
        ({"strength": float("nan")}, r"Subject 1's strength: expected a finite number, got nan"),
        ({"start_percent": float("nan")}, r"Subject 1's start_percent: expected a finite number"),
        ({"end_percent": 2}, r"Subject 1's end_percent: expected a number from 0 to 1, got 2\."),
    ],
)
def test_numbers_that_would_drop_the_subject(settings: dict[str, float], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(make_subject(), **settings)


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
