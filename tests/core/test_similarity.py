"""The similarity transform on shapes of which it is known."""

from __future__ import annotations

import math

import pytest
import torch

from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.hifi_tuner import Similarity, fit_similarity

SIZE = (96, 128)


def grid() -> tuple[torch.Tensor, torch.Tensor]:
    y = torch.arange(SIZE[0]) - (SIZE[0] - 1) / 2
    x = torch.arange(SIZE[1]) - (SIZE[1] - 1) / 2
    return torch.meshgrid(y, x, indexing="ij")


def disc(radius: float, x: float = 0.0, y: float = 0.0) -> torch.Tensor:
    rows, columns = grid()
    return (((columns - x) ** 2 + (rows - y) ** 2) < radius**2).float()


def letter_l() -> torch.Tensor:
    mask = torch.zeros(SIZE)
    mask[25:65, 45:55] = 1.0
    mask[55:65, 45:75] = 1.0
    return mask


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.minimum(first, second).sum() / torch.maximum(first, second).sum())


def moved(transform: Similarity, mask: torch.Tensor) -> torch.Tensor:
    return transform.apply(mask[None, None], "zeros")[0, 0]


def test_composition_is_the_matrix_product() -> None:
    """Translate, then rotate, then scale, on column vectors, about the centre."""
    transform = Similarity(scale=1.5, angle=0.4, translation=(6.0, -4.0), size=SIZE)
    points = [(10.0, 5.0), (-12.0, 8.0), (3.0, -9.0)]
    for x, y in points:
        cosine, sine = math.cos(0.4), math.sin(0.4)
        shifted = (x + 6.0, y - 4.0)
        wanted = (
            1.5 * (cosine * shifted[0] - sine * shifted[1]),
            1.5 * (sine * shifted[0] + cosine * shifted[1]),
        )
        result = moved(transform, disc(4.0, x, y))
        rows, columns = grid()
        centre = [float((axis * result).sum() / result.sum()) for axis in (columns, rows)]
        assert centre == pytest.approx(wanted, abs=0.1)
        assert float(result.sum() / disc(4.0, x, y).sum()) == pytest.approx(2.25, rel=0.05)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 2.0])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (20.0, -12.0)])
def test_discs(factor: float, shift: tuple[float, float]) -> None:
    reference, target = disc(14.0, -8.0, 5.0), disc(14.0 * factor, *shift)
    transform = fit_similarity(reference, target)
    assert transform.scale == pytest.approx(factor, rel=0.03)
    assert overlap(moved(transform, reference), target) > 0.93


@pytest.mark.parametrize("angle", [0.0, 0.6, -1.2, 2.0, 3.0])
def test_letter_is_turned(angle: float) -> None:
    made = Similarity(scale=0.9, angle=angle, translation=(5.0, -3.0), size=SIZE)
    target = moved(made, letter_l())
    transform = fit_similarity(letter_l(), target)
    assert transform.scale == pytest.approx(0.9, rel=0.03)
    assert abs(math.remainder(transform.angle - angle, 2 * math.pi)) < 0.05
    assert overlap(moved(transform, letter_l()), target) > 0.9


def test_angle_is_limited() -> None:
    made = Similarity(scale=1.0, angle=1.0, translation=(0.0, 0.0), size=SIZE)
    transform = fit_similarity(letter_l(), moved(made, letter_l()), max_angle=0.3)
    assert abs(transform.angle) <= 0.3 + 1e-6
    assert fit_similarity(letter_l(), letter_l(), max_angle=0.0).angle == 0.0


def test_as_printed_never_enlarges() -> None:
    """Why it is not the default."""
    small, large = disc(8.0), disc(16.0)
    assert fit_similarity(small, large, "paper").scale < 1.3
    assert fit_similarity(large, small, "paper").scale < 0.75
    assert fit_similarity(small, large).scale == pytest.approx(2.0, rel=0.03)


def test_large_masks_and_pictures_of_another_size() -> None:
    """Fitted on a small copy; applied at any size of the same shape."""
    big = [
        mask.repeat_interleave(4, 0).repeat_interleave(4, 1) for mask in (disc(12, -20), disc(18))
    ]
    transform = fit_similarity(*big)
    assert transform.scale == pytest.approx(1.5, rel=0.03)
    assert transform.translation[0] == pytest.approx(80.0, abs=3.0)
    small = moved(transform, disc(12, -20))
    assert overlap(small, disc(18)) > 0.9


def test_padding() -> None:
    """Borders are repeated, or empty."""
    transform = Similarity(scale=0.5, angle=0.0, translation=(0.0, 0.0), size=SIZE)
    image = torch.ones(1, 2, *SIZE)
    assert torch.allclose(transform.apply(image), image)
    assert float(transform.apply(image, "zeros").mean()) == pytest.approx(0.25, abs=0.02)


def test_works_in_inference_mode() -> None:
    with torch.inference_mode():
        transform = fit_similarity(disc(10.0), disc(15.0))
        assert transform.scale == pytest.approx(1.5, rel=0.03)
        transform.apply(torch.ones(1, 1, *SIZE))


def test_bad_masks() -> None:
    with pytest.raises(ValueError, match="target_mask: expected 1 where the subject is, got an em"):
        fit_similarity(disc(5.0), torch.zeros(SIZE))
    with pytest.raises(ValueError, match="reference_mask: expected 1 where"):
        fit_similarity(torch.zeros(SIZE), disc(5.0))
    with pytest.raises(ShapeError, match="reference_mask: expected shape"):
        fit_similarity(torch.ones(4, 4), disc(5.0))
    with pytest.raises(ValueError, match="algorithm: expected moments or paper"):
        fit_similarity(disc(5.0), disc(5.0), "mean")
    with pytest.raises(ShapeError, match="image: expected the shape of the masks"):
        fit_similarity(disc(5.0), disc(5.0)).apply(torch.ones(1, 1, 50, 50))
