"""Panorama crops: geometry by hand, and the repair of compression damage."""

import numpy as np
import pytest

pytest.importorskip("OpenEXR")

from training.toy.data.backgrounds import SCENES, perspective_crop, repair, scene_crops, tone_map
from training.toy.data.split import HELDOUT_SCENES


def four_walls():
    """Panorama (64, 128, 3): red, green, blue, white walls centred at 45, 135, ... degrees."""
    walls = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]], float)
    return np.broadcast_to(np.repeat(walls, 32, axis=0), (64, 128, 3))


@pytest.mark.parametrize(("yaw", "colour"), [(45, 0), (135, 1), (225, 2)])
def test_yaw_looks_at_the_wall(yaw, colour):
    crop = perspective_crop(four_walls(), yaw, 0, 40, side=16)
    assert crop.shape == (16, 16, 3)
    assert (crop[..., colour] == 255).all()
    assert crop.sum() == 255 * 16 * 16


def test_right_of_the_picture_is_a_larger_yaw():
    crop = perspective_crop(four_walls(), 90, 0, 60, side=16)
    assert crop[8, 1].argmax() == 0
    assert crop[8, 14].argmax() == 1


def test_pitch_up_looks_up():
    panorama = np.zeros((64, 128, 3))
    panorama[:32] = 1
    assert perspective_crop(panorama, 0, 60, 40, side=8).min() == 255
    assert perspective_crop(panorama, 0, -60, 40, side=8).max() == 0


def test_repair_fills_pixels_that_are_not_positive():
    radiance = np.full((16, 32, 3), 0.5, np.float32)
    radiance[4, 5] = -1
    radiance[9, 9] = np.nan
    assert repair(radiance) == pytest.approx(0.5)


def test_repair_closes_the_ring_beside_a_lamp():
    radiance = np.full((32, 64, 3), 0.5, np.float32)
    radiance[14:17, 29:34] = 100.0
    radiance[14:17, 28] = 0.01
    assert repair(radiance)[15, 28].min() >= 0.5


def test_repair_keeps_a_dark_line_without_a_lamp():
    radiance = np.full((32, 64, 3), 0.5, np.float32)
    radiance[:, 20] = 0.01
    assert np.array_equal(repair(radiance), radiance)


def test_tone_map_is_monotone_and_in_range():
    ramp = np.linspace(0.01, 50, 64)[:, None, None] * np.ones((64, 2, 3))
    shown = tone_map(ramp)
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert (np.diff(shown[:, 0, 0]) >= 0).all()


def test_crops_are_reproducible():
    scene = SCENES[0]
    first, second = (scene_crops(scene, four_walls(), 2) for _ in range(2))
    assert np.array_equal(first, second)


def test_heldout_scenes_exist_and_names_are_unique():
    names = [scene.name for scene in SCENES]
    assert len(set(names)) == len(names)
    assert {scene.name for scene in SCENES if scene.split == "heldout"} == HELDOUT_SCENES
