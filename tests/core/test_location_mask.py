import pytest
import torch

from subject_diffusion_core.area_resize import area_resize
from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.location_mask import (
    box_coverage,
    boxes_to_location_mask,
    mask_in_box_coverage,
    masks_to_location_mask,
)

YES = torch.tensor([[True]])


def test_exact_coverage_by_hand():
    box = torch.tensor([[[0.125, 0.5, 0.75, 1.0]]])
    mask = boxes_to_location_mask(box, YES, height=2, width=4)
    assert torch.allclose(mask, torch.tensor([[[[0.0, 0, 0, 0], [0.5, 1, 1, 0]]]]))


def test_total_area_is_the_boxes_area_at_any_size():
    box = torch.tensor([[[0.13, 0.21, 0.77, 0.94]]])
    for height, width in ((65, 97), (7, 3), (1, 1)):
        mask = boxes_to_location_mask(box, YES, height, width)
        assert mask.mean().item() == pytest.approx(0.64 * 0.73, abs=1e-5)


def test_union_by_maximum_and_empty_slots_are_ignored():
    boxes = torch.tensor([[[0.0, 0, 0.5, 1], [0.0, 0, 0.75, 1], [0.0, 0, 1, 1]]])
    valid = torch.tensor([[True, True, False]])
    assert torch.allclose(
        boxes_to_location_mask(boxes, valid, 1, 2), torch.tensor([[[[1.0, 0.5]]]])
    )


def test_outside_is_one_minus_inside_for_one_subject():
    box = torch.tensor([[[0.1, 0.2, 0.6, 0.9]]])
    inside = boxes_to_location_mask(box, YES, 5, 6, "inside")
    assert torch.allclose(boxes_to_location_mask(box, YES, 5, 6, "outside"), 1 - inside)


def test_outside_multiplies_subjects():
    boxes = torch.tensor([[[0.0, 0, 0.25, 1], [0.0, 0, 0.25, 1]]])
    mask = boxes_to_location_mask(boxes, torch.tensor([[True, True]]), 1, 2, "outside")
    assert torch.allclose(mask, torch.tensor([[[[0.25, 1.0]]]]))


@pytest.mark.parametrize("polarity", ["inside", "outside"])
def test_no_subject_is_all_zeros(polarity):
    boxes = torch.full((2, 1, 4), float("nan"))
    boxes[1] = torch.tensor([0.0, 0.0, 0.5, 1.0])
    valid = torch.tensor([[False], [True]])
    mask = boxes_to_location_mask(boxes, valid, 2, 2, polarity)
    assert not mask[0].any() and mask[1].any()


def test_flipped_box_gives_the_flipped_mask():
    box = torch.tensor([[[0.1, 0.2, 0.45, 0.9]]])
    flipped = torch.tensor([[[1 - 0.45, 0.2, 1 - 0.1, 0.9]]])
    mask = boxes_to_location_mask(box, YES, 5, 7)
    assert torch.allclose(boxes_to_location_mask(flipped, YES, 5, 7), mask.flip(-1), atol=1e-6)


def test_subject_order_does_not_matter():
    boxes, valid = torch.rand(2, 3, 4).sort(dim=-1).values, torch.rand(2, 3) > 0.3
    for polarity in ("inside", "outside"):
        mask = boxes_to_location_mask(boxes, valid, 4, 4, polarity)
        other = boxes_to_location_mask(boxes.flip(1), valid.flip(1), 4, 4, polarity)
        assert torch.allclose(mask, other)


def test_boxes_and_their_pixel_masks_agree():
    pixels = torch.zeros(1, 1, 30, 30)
    pixels[..., 3:21, 6:24] = 1
    boxes = torch.tensor([[[6 / 30, 3 / 30, 24 / 30, 21 / 30]]])
    drawn = masks_to_location_mask(pixels, YES, 7, 9)
    assert torch.allclose(drawn, boxes_to_location_mask(boxes, YES, 7, 9), atol=1e-5)


def test_area_resize_keeps_the_mean_for_sizes_that_do_not_divide():
    images = torch.rand(2, 3, 17, 23)
    for size in ((5, 7), (65, 97), (17, 23)):
        resized = area_resize(images, *size)
        assert resized.shape[-2:] == size
        assert torch.allclose(resized.mean((-2, -1)), images.mean((-2, -1)), atol=1e-5)


def test_area_resize_to_the_same_size_changes_nothing():
    images = torch.rand(3, 8, 9)
    assert torch.allclose(area_resize(images, 8, 9), images, atol=1e-6)


def test_unknown_polarity():
    with pytest.raises(ValueError, match="polarity: expected one of inside, outside, got 'both'"):
        boxes_to_location_mask(torch.zeros(1, 1, 4), YES, 2, 2, "both")


def test_wrong_number_of_flags():
    with pytest.raises(ShapeError, match=r"subject_valid: expected shape \(1, 2\), got \(1, 1\)"):
        boxes_to_location_mask(torch.zeros(1, 2, 4), YES, 2, 2)


def test_gradient():
    boxes = torch.tensor([[[0.11, 0.23, 0.68, 0.91]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda b: boxes_to_location_mask(b, YES, 3, 4), boxes)


def test_a_mask_fills_its_box_by_hand():
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    box = torch.tensor([0.25, 0.0, 0.75, 1.0])
    wanted = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
    assert torch.allclose(mask_in_box_coverage(mask, box, 2, 4), wanted)
    assert torch.allclose(mask_in_box_coverage(mask, box, 1, 2), torch.tensor([[0.5, 0.25]]))


def test_a_mask_in_its_box_seen_through_a_frame():
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    box = torch.tensor([0.25, 0.0, 0.75, 1.0])
    left_half, lower_half = (0.0, 0.0, 0.5, 1.0), (0.0, 0.5, 1.0, 1.0)
    seen = mask_in_box_coverage(mask, box, 1, 2, left_half)
    assert torch.allclose(seen, torch.tensor([[0.0, 1.0]]))
    seen = mask_in_box_coverage(mask, box, 1, 4, lower_half)
    assert torch.allclose(seen, torch.tensor([[0.0, 1.0, 1.0, 0.0]]))


@pytest.mark.parametrize(
    "box",
    [
        (0.13, 0.21, 0.77, 0.94),
        (0.0, 0.0, 1.0, 1.0),
        (0.5, 0.5, 0.501, 0.502),
        (-0.3, 0.2, 0.4, 1.6),
        (0.6, 0.1, 0.6, 0.9),
        (0.9, 0.1, 0.2, 0.9),
    ],
)
@pytest.mark.parametrize("frame", [(0.0, 0.0, 1.0, 1.0), (0.1, 0.3, 0.55, 0.97)])
def test_a_full_mask_is_its_box(box, frame):
    box = torch.tensor(box)
    left, top, right, bottom = frame
    origin = torch.tensor([left, top, left, top])
    size = torch.tensor([right - left, bottom - top, right - left, bottom - top])
    for height, width in ((7, 9), (64, 48), (1, 1)):
        drawn = mask_in_box_coverage(torch.ones(5, 3), box, height, width, frame)
        wanted = box_coverage(((box - origin) / size)[None, None], height, width)[0, 0]
        assert torch.allclose(drawn, wanted, atol=1e-5)


def test_the_picture_s_mask_is_the_cropped_mask_in_its_bounding_box():
    """Training draws the first, a host the second."""
    picture = torch.zeros(30, 40)
    crop = (torch.rand(18, 15) > 0.4).float()
    picture[3:21, 6:21] = crop
    box = torch.tensor([6 / 40, 3 / 30, 21 / 40, 21 / 30])
    drawn = masks_to_location_mask(picture[None, None], YES, 7, 9)[0, 0]
    assert torch.allclose(mask_in_box_coverage(crop, box, 7, 9), drawn, atol=1e-5)


def test_a_mask_in_a_box_of_another_shape():
    with pytest.raises(ShapeError, match=r"mask: expected shape \(H, W\), got \(1, 2, 2\)"):
        mask_in_box_coverage(torch.ones(1, 2, 2), torch.zeros(4), 2, 2)
    with pytest.raises(ShapeError, match=r"box_xyxy: expected shape \(4\), got \(1, 4\)"):
        mask_in_box_coverage(torch.ones(2, 2), torch.zeros(1, 4), 2, 2)
