"""A subject's pictures, masks, label and region, as they are checked where they come in."""

from __future__ import annotations

import pytest
import torch
from subject_diffusion_pack.nodes.subjects.boxes import box_around
from subject_diffusion_pack.nodes.subjects.subject import Subject, checked_label, checked_region
from subject_diffusion_pack.nodes.subjects.view_masks import read_view_masks


def take(
    images: torch.Tensor,
    masks: torch.Tensor | None,
    marks: str = "subject",
    said: list[str] | None = None,
) -> torch.Tensor:
    warn = [].append if said is None else said.append
    taken = read_view_masks(images, masks, "Subject 1", marks, warn)
    assert taken is not None
    return taken


def test_masks() -> None:
    mask = torch.zeros(1, 20, 30)
    mask[:, 5:10, 5:10] = 1
    images = torch.rand(3, 20, 30, 3)
    assert take(images, mask).shape == (3, 20, 30)
    assert take(images[:1], mask).shape == (1, 20, 30)
    # Load Image's mask of a picture without transparency, and the same through Invert Mask
    for blank in (torch.zeros(1, 64, 64), torch.ones(1, 64, 64)):
        assert read_view_masks(images, blank, "Subject 1", "subject", [].append) is None
    with pytest.raises(ValueError, match=r"expected 1 mask or one per view \(3\), got 2"):
        take(images, mask.expand(2, -1, -1))


def test_what_a_mask_marks() -> None:
    """Mask Editor marks what was painted; Load Image's mask of a cut-out marks what is cut away."""
    images, painted = torch.rand(1, 20, 30, 3), torch.zeros(1, 20, 30)
    painted[:, 5:10, 5:10] = 1
    said: list[str] = []
    for mask, marks in ((painted, "subject"), (1 - painted, "background")):
        assert torch.equal(take(images, mask, marks, said), painted) and said == []
    for mask, name in ((painted, "subject"), (1 - painted, "background")):
        said.clear()
        assert torch.equal(take(images, mask, "guess", said), painted)
        assert len(said) == 1 and f"took it for that of the {name}" in said[0]
    said.clear()
    assert torch.equal(take(images, 1 - painted, "subject", said), 1 - painted)
    assert "as that of a background does" in said[0]
    with pytest.raises(ValueError, match="mask_marks: expected subject, background, guess, got"):
        take(images, painted, "hole")


def test_alpha_is_a_mask() -> None:
    images = torch.rand(2, 20, 30, 4)
    images[..., 3] = 0
    images[:, 5:10, 5:10, 3] = 1
    assert torch.equal(take(images, None), images[..., 3])
    mask = torch.zeros(1, 20, 30)
    mask[:, :3] = 1
    assert torch.equal(take(images, mask)[0], mask[0])
    images[..., 3] = 1
    assert read_view_masks(images, None, "Subject 1", "subject", [].append) is None
    images[..., 3] = 0
    with pytest.raises(ValueError, match=r"Subject 1's mask: .* got a mask that is empty"):
        take(images, None)


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
        checked_label(label, "Subject 1")
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
        make_subject(**settings)


def make_subject(**settings: float) -> Subject:
    fields = {"strength": 1.0, **settings}
    images = torch.rand(1, 20, 30, 3)
    return Subject(name="Subject 1", images=images, masks=None, label="dog", box=None, **fields)


def test_words_of_a_label() -> None:
    assert checked_label("  fire \n truck ", "Subject 1") == "fire truck"


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
    with pytest.raises(ValueError, match=sentence):
        box_around(checked_region(region, "Subject 1"), "Subject 1", "region")
