"""GrabCut on drawings of which it is known what the subject is."""

from __future__ import annotations

import numpy as np
import pytest
from subject_diffusion_pack.nodes.segmentation.grab_cut import grab_cut

SIZE = 48


def drawing(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A mottled disc of two reds before a noisy ground of green and blue, and where it is."""
    chance = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    disc = np.hypot(x - 26, y - 22) < 12
    picture = np.where((y < 20)[..., None], (0.3, 0.4, 0.8), (0.2, 0.6, 0.2))
    reds = np.where((x < 26)[..., None], (0.8, 0.2, 0.2), (0.9, 0.5, 0.3))
    picture = np.where(disc[..., None], reds, picture)
    return (picture + chance.normal(0, 0.05, picture.shape)).clip(0, 1), disc


def frame(margin: int) -> np.ndarray:
    inside = np.zeros((SIZE, SIZE), dtype=bool)
    inside[margin:-margin, margin:-margin] = True
    return inside


NOTHING = np.zeros((SIZE, SIZE), dtype=bool)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("margin", [2, 8])
def test_a_disc_is_found(margin: int) -> None:
    picture, disc = drawing()
    found = grab_cut(picture, frame(margin), NOTHING, NOTHING)
    assert found.shape == disc.shape and found.dtype == bool
    assert overlap(found, disc) > 0.97
    assert np.array_equal(found, grab_cut(picture, frame(margin), NOTHING, NOTHING))


def test_nothing_is_found_outside() -> None:
    picture, _ = drawing()
    inside = NOTHING.copy()
    inside[10:34, 14:26] = True
    assert not (grab_cut(picture, inside, NOTHING, NOTHING) & ~inside).any()


def test_what_is_marked_stays() -> None:
    """A blue spot in the disc, in the colour of the ground, and a red one beside it."""
    picture, disc = drawing()
    picture[18:22, 24:28] = (0.3, 0.4, 0.8)
    picture[38:44, 6:12] = (0.8, 0.2, 0.2)
    spot, beside = NOTHING.copy(), NOTHING.copy()
    spot[18:22, 24:28], beside[38:44, 6:12] = True, True
    plain = grab_cut(picture, frame(2), NOTHING, NOTHING)
    marked = grab_cut(picture, frame(2), spot, beside)
    assert plain[beside].any() and not marked[beside].any()
    assert marked[spot].all()
    assert overlap(marked, disc) > 0.97


def test_a_picture_of_one_colour() -> None:
    """No subject to be told from the rest: an answer, and no fault."""
    found = grab_cut(np.full((SIZE, SIZE, 3), 0.5), frame(2), NOTHING, NOTHING)
    assert found.shape == (SIZE, SIZE)


def test_everything_may_be_marked() -> None:
    picture, _ = drawing()
    assert grab_cut(picture, ~NOTHING, ~NOTHING, NOTHING).all()
    assert not grab_cut(picture, NOTHING, NOTHING, NOTHING).any()
