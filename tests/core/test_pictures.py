"""Pictures and masks in every form that nodes give."""

from __future__ import annotations

import pytest
import torch

from subject_diffusion_core.pictures import is_subject, marks_background, read_masks, read_pictures

NAN, INF = float("nan"), float("inf")
RGB = torch.rand(2, 8, 9, 3, generator=torch.Generator().manual_seed(0))


def test_what_is_right_stays_the_same_object() -> None:
    mask = torch.rand(2, 8, 9)
    rgba = torch.rand(1, 8, 9, 4)
    assert read_pictures("image", RGB) is RGB
    assert read_pictures("image", rgba) is rgba
    assert read_masks("mask", mask) is mask
    assert read_pictures("image", RGB.half()).dtype == torch.float16


def test_pictures_in_other_forms() -> None:
    one = read_pictures("image", RGB[0])
    assert torch.equal(one, RGB[:1])
    grey = read_pictures("image", RGB[..., :1])
    assert torch.equal(grey, RGB[..., :1].expand(-1, -1, -1, 3))
    with_alpha = read_pictures("image", RGB[..., :2])
    assert torch.equal(with_alpha[..., :3], grey) and torch.equal(with_alpha[..., 3], RGB[..., 1])
    bytes_ = (RGB * 255).round().byte()
    assert torch.equal(read_pictures("image", bytes_), bytes_.float() / 255)


def test_masks_in_other_forms() -> None:
    mask = (torch.rand(2, 8, 9) > 0.5).float()
    assert torch.equal(read_masks("mask", mask[0]), mask[:1])
    assert torch.equal(read_masks("mask", mask[:, None]), mask)
    assert torch.equal(read_masks("mask", mask[..., None]), mask)
    assert torch.equal(read_masks("mask", mask.bool()), mask)
    assert torch.equal(read_masks("mask", (mask * 255).byte()), mask)
    assert torch.equal(read_masks("mask", mask.byte()), mask)
    assert torch.equal(read_masks("mask", mask * 1.2 - 0.1), (mask * 1.2 - 0.1).clamp(0, 1))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (torch.zeros(1, 3, 8, 9), r"got \(1, 3, 8, 9\)\. Channels come last\. Connect an IMAGE"),
        (torch.zeros(1, 8, 9), r"expected pictures of shape .*, got \(1, 8, 9\)\. Connect"),
        (torch.zeros(8, 9), r"got \(8, 9\)"),
        (torch.zeros(1, 8, 9, 7), r"got \(1, 8, 9, 7\)"),
        (torch.zeros(0, 8, 9, 3), r"expected one picture or more, got an empty batch\."),
        (torch.zeros(1, 0, 9, 3), r"'s size: expected a whole number from 1 to 16384, got 0"),
        (torch.zeros(1, 8, 9, 3, dtype=torch.int64), r"expected floating-point .* got torch\.int6"),
        (torch.full((1, 8, 9, 3), NAN), r"expected finite numbers, got NaN or infinity\."),
        (torch.full((1, 8, 9, 3), -INF), r"expected finite numbers, got NaN or infinity\."),
        (torch.full((1, 8, 9, 3), 200.0), r"expected colours from 0 to 1, got 200 to 200\."),
        ({"samples": torch.zeros(1)}, r"expected pictures, got dict\. Connect an IMAGE"),
        (None, r"expected pictures, got None\."),
        ("a" * 10**7, r"expected pictures, got 'a+\.\.\.'\."),
    ],
)
def test_what_is_no_picture(images: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=rf"^image.*{sentence}") as error:
        read_pictures("image", images)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("masks", "sentence"),
    [
        (torch.zeros(1, 8, 9, 3), r"expected masks of shape \(masks, height, width\), got \(1, 8"),
        (torch.zeros(8), r"expected masks of shape .* got \(8,\)"),
        (torch.zeros(0, 8, 9), r"expected one mask or more, got none\."),
        (torch.full((8, 9), NAN), r"expected finite numbers"),
        (torch.full((8, 9), 255.0), r"expected numbers from 0 to 1, got up to 255\. Divide it"),
        (torch.zeros(1, 8, 9, dtype=torch.int32), r"expected floating-point numbers"),
        ([[0.0]], r"expected a mask, got \[\[0\.0\]\]\."),
    ],
)
def test_what_is_no_mask(masks: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=rf"^mask: {sentence}"):
        read_masks("mask", masks)


def test_where_a_mask_counts_and_what_it_marks() -> None:
    assert is_subject(torch.tensor([0.499, 0.5])).tolist() == [False, True]
    thing = torch.zeros(20, 20)
    thing[5:15, 5:15] = 1
    standing = torch.zeros(20, 20)
    standing[5:, 5:15] = 1  # on the lower edge
    assert [marks_background(m) for m in (thing, 1 - thing, standing, 1 - standing)] == [
        False, True, False, True,
    ]  # fmt: skip
    assert not marks_background(torch.ones(20, 20))
