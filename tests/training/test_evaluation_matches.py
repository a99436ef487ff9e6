"""Boxes found by the segmenter, and linear heads, by cases with known answers."""

import numpy as np
import pytest
import torch

from training.evaluation.box_iou import SubjectSegmenter, found_box, row_ious, soften
from training.evaluation.text_match import fit_head

SIDE = 128
ASKED = (40, 40, 80, 80)


def mask_of(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    for x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = True
    return mask


def test_the_region_in_the_asked_box_is_found():
    assert found_box(mask_of((44, 42, 78, 86)), ASKED) == (44, 42, 78, 86)


def test_two_parts_of_a_subject_make_one_box():
    assert found_box(mask_of((42, 42, 60, 78), (64, 42, 79, 78)), ASKED) == (42, 42, 79, 78)


def test_a_neighbour_and_specks_do_not_count():
    mask = mask_of((44, 44, 76, 76), (100, 40, 120, 80), (41, 41, 43, 43))
    assert found_box(mask, ASKED) == (44, 44, 76, 76)


def test_nothing_near_the_box_is_none():
    assert found_box(mask_of((0, 0, 20, 20)), ASKED) is None
    assert found_box(mask_of(), ASKED) is None


def test_what_lies_beyond_the_search_window_is_cut_off():
    assert found_box(mask_of((30, 50, 100, 70)), ASKED) == (30, 50, 92, 70)


class Threshold(SubjectSegmenter):
    """Calls everything bright a subject."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pixels.mean(dim=1, keepdim=True), 2) - 0.5


def test_iou_of_a_picture_is_taken_with_every_box():
    picture = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    picture[0, 40:80, 40:60] = 255
    ious = row_ious(Threshold(), picture, [[ASKED, (90, 90, 120, 120)]])
    assert ious.shape == (1, 2)
    assert ious[0] == pytest.approx([0.5, 0.0], abs=0.03)


def test_the_segmenter_gives_a_mask_of_the_pictures_size():
    pictures = np.random.default_rng(0).integers(256, size=(3, SIDE, SIDE, 3), dtype=np.uint8)
    masks = SubjectSegmenter().eval().masks(pictures, batch_size=2)
    assert masks.shape == (3, SIDE, SIDE) and masks.dtype == bool


def test_softening_changes_about_half_of_the_pictures():
    pixels = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    softened = soften(pixels, torch.Generator().manual_seed(1))
    changed = (softened != pixels).flatten(1).any(dim=1).sum()
    assert 20 < changed < 44


def test_a_linear_head_learns_separable_classes():
    rng = np.random.default_rng(0)
    centers = np.eye(3, 8, dtype=np.float32)
    names = ["forest", "quay", "park"] * 20
    noise = rng.normal(0, 0.1, size=(60, 8)).astype(np.float32)
    features = centers[np.arange(60) % 3] + noise
    head = fit_head(features[:30], names[:30])
    assert head.classes == ["forest", "park", "quay"]
    assert head.matches(features[30:], names[30:]).mean() == 1.0
    assert head.matches(features[30:], ["forest"] * 30).mean() == pytest.approx(1 / 3)
