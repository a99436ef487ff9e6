"""Composites: boxes, masks, flips and captions are exactly what is in the picture."""

import numpy as np
import pytest

from training.toy.data.compose import (
    Cutout,
    box_iou,
    compose,
    draw_sizes,
    join_labels,
    place_boxes,
    with_article,
)
from training.toy.data.label_rules import DESIGN_WORDS
from training.toy.data.pictures import (
    SIDE,
    crop_to_alpha,
    fill_square,
    reference_image,
    resize_rgba,
)


def block(colour, label="box", width=128, height=128, split=False):
    """A cut-out of one colour; with `split` its right half is black."""
    rgba = np.zeros((height, width, 4), np.uint8)
    rgba[..., :3], rgba[..., 3] = colour, 255
    if split:
        rgba[:, width // 2 :, :3] = 0
    return Cutout(rgba=fill_square(rgba), label=label, width=width, height=height)


def paste(cutouts, boxes, flipped=None, background=0, seed=0):
    ground = np.full((SIDE, SIDE, 3), background, np.uint8)
    return compose(
        cutouts,
        ground,
        "in a forest",
        np.random.default_rng(seed),
        boxes_px=boxes,
        flipped=flipped or [False] * len(cutouts),
        shadow=False,
    )


def test_box_is_tight_around_the_pasted_subject():
    composite = paste([block((255, 255, 255))], [(10, 20, 74, 84)])
    rows, columns = np.nonzero(composite.image.any(-1))
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (10, 20, 74, 84)
    assert composite.boxes_xyxy[0] == pytest.approx(np.array([10, 20, 74, 84]) / 128)
    assert np.array_equal(composite.masks[0], composite.image.any(-1))


def test_flip_mirrors_the_subject_inside_its_box():
    plain = paste([block((255, 0, 0), split=True)], [(32, 32, 96, 96)])
    flipped = paste([block((255, 0, 0), split=True)], [(32, 32, 96, 96)], [True])
    assert np.array_equal(plain.image[:, ::-1], flipped.image)
    assert flipped.flipped.tolist() == [True]


def test_later_subjects_cover_earlier_ones():
    subjects = [block((255, 0, 0), "box"), block((0, 255, 0), "cup")]
    composite = paste(subjects, [(0, 0, 60, 60), (30, 30, 90, 90)])
    assert not (composite.masks[0] & composite.masks[1]).any()
    assert composite.masks[0].sum() == 60 * 60 - 30 * 30
    assert composite.masks[1].sum() == 60 * 60
    assert composite.image[45, 45].argmax() == 1
    assert composite.boxes_xyxy[0, 2] == pytest.approx(60 / 128)


def test_edges_have_no_white_rims():
    rgba = np.full((128, 128, 4), 255, np.uint8)
    rgba[..., 3] = 0
    rgba[30:98, 30:98] = (200, 0, 0, 255)
    cutout = Cutout(rgba=rgba, label="box", width=128, height=128)
    image = paste([cutout], [(8, 8, 61, 61)]).image
    assert image[..., 1:].max() <= 25  # brightness and contrast jitter alone


def test_half_transparent_subjects_let_the_background_through():
    rgba = np.zeros((128, 128, 4), np.uint8)
    rgba[..., 3] = 128
    cutout = Cutout(rgba=rgba, label="glass", width=128, height=128)
    image = paste([cutout], [(0, 0, 128, 128)], background=200).image
    assert image.mean() == pytest.approx(200 * 127 / 255, abs=8)


def test_boxes_of_two_subjects_hardly_overlap():
    rng = np.random.default_rng(1)
    cutouts = [block((9, 9, 9), "box"), block((9, 9, 9), "cup", 128, 64)]
    for _ in range(50):
        sizes = draw_sizes(cutouts, SIDE, rng)
        boxes = place_boxes(sizes, SIDE, rng)
        assert box_iou(*boxes) < 0.12
        assert all(0 <= x1 < x2 <= SIDE and 0 <= y1 < y2 <= SIDE for x1, y1, x2, y2 in boxes)


@pytest.mark.parametrize(
    ("count", "low", "high"), [(1, 0.4, 0.85), (2, 0.32, 0.58), (4, 0.28, 0.45)]
)
def test_sizes_stay_in_their_range(count, low, high):
    rng = np.random.default_rng(2)
    longest = [
        max(size) / SIDE
        for _ in range(100)
        for size in draw_sizes([block((1, 1, 1), width=64)] * count, SIDE, rng)
    ]
    assert low - 0.01 < min(longest)
    assert max(longest) < high + 0.01


def test_box_iou_by_hand():
    assert box_iou((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(8 / 24)
    assert box_iou((0, 0, 4, 4), (4, 0, 6, 4)) == 0


def test_same_seed_same_picture():
    ground = np.full((SIDE, SIDE, 3), 80, np.uint8)
    cutouts = [block((200, 0, 0), "box"), block((0, 0, 200), "cup")]
    pictures = [compose(cutouts, ground, "x", np.random.default_rng(s)) for s in (3, 3, 4)]
    assert np.array_equal(pictures[0].image, pictures[1].image)
    assert pictures[0].caption == pictures[1].caption
    assert not np.array_equal(pictures[0].image, pictures[2].image)


@pytest.mark.parametrize(
    ("label", "phrase"),
    [
        ("owl", "an owl"),
        ("unicorn face", "a unicorn face"),
        ("hourglass", "an hourglass"),
        ("glass", "a glass"),
        ("rhinoceros", "a rhinoceros"),
        ("scissors", "scissors"),
        ("bread", "bread"),
    ],
)
def test_articles(label, phrase):
    assert with_article(label) == phrase


def test_caption_names_subjects_and_scene_and_nothing_else():
    assert join_labels(["truck", "cactus"]) == "a truck and a cactus"
    captions = {
        paste([block((255, 0, 0), "truck")], [(0, 0, 40, 40)], seed=seed).caption
        for seed in range(40)
    }
    assert len(captions) > 3
    for caption in captions:
        assert "a truck" in caption
        assert "in a forest" in caption
        assert not DESIGN_WORDS & set(caption.split())


def test_reference_is_on_white():
    rgba = np.zeros((128, 128, 4), np.uint8)
    rgba[40:80, 40:80] = (10, 20, 30, 255)
    picture = reference_image(rgba)
    assert picture.shape == (128, 128, 3)
    assert picture[60, 60].tolist() == [10, 20, 30]
    assert picture[0, 0].tolist() == [255, 255, 255]


def test_fill_square_centres_and_crop_undoes_it():
    rgba = np.full((30, 60, 4), 255, np.uint8)
    square = fill_square(rgba)
    assert square.shape == (128, 128, 4)
    assert crop_to_alpha(square).shape == (64, 128, 4)
    assert resize_rgba(crop_to_alpha(square), (60, 30)).shape == rgba.shape
