"""The node Cut Out in ComfyUI: pictures to masks without a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from host_models import Host
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def cut(host: Host, image: torch.Tensor, box: str = "", points: str = "", **clean: bool) -> Any:
    clean = {"largest_component": True, "fill_holes": True, **clean}
    return host.cut_out_node.SubjectDiffusionCutOut.execute(image, box, points, **clean).args


def before_a_wall(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A sample subject on a ground that changes from brown to grey, and its mask."""
    loaded = Image.open(ROOT / "assets" / "subjects" / f"{name}.png").resize((160, 160))
    rgba = torch.from_numpy(np.array(loaded)).float() / 255
    ground = torch.zeros(200, 300, 3)
    ground[..., 0] = torch.linspace(0.45, 0.6, 300)
    ground[..., 1] = torch.linspace(0.35, 0.6, 200)[:, None]
    ground[..., 2] = 0.3
    generator = torch.Generator().manual_seed(1)
    ground += 0.03 * torch.randn(ground.shape, generator=generator)
    alpha = torch.zeros(200, 300, 1)
    alpha[20:180, 70:230, 0] = rgba[..., 3]
    padded = torch.zeros(200, 300, 3)
    padded[20:180, 70:230] = rgba[..., :3]
    picture = ground.clamp(0, 1) * (1 - alpha) + padded * alpha
    return picture[None], alpha[None, ..., 0]


def overlap(first: torch.Tensor, second: torch.Tensor) -> float:
    first, second = first > 0.5, second > 0.5
    return float((first & second).sum() / (first | second).sum())


@pytest.mark.parametrize("name", ["crab", "guitar", "hamburger"])
@pytest.mark.parametrize("box", ["", '{"x": 60, "y": 10, "width": 180, "height": 180}'])
def test_sample_subjects_before_a_wall(host: Host, name: str, box: str) -> None:
    picture, alpha = before_a_wall(name)
    mask, cut_out = cut(host, picture, box)
    assert mask.shape == (1, 200, 300) and cut_out.shape == (1, 200, 300, 3)
    assert float(mask.min()) == 0.0 and float(mask.max()) == 1.0
    assert overlap(mask, alpha) > 0.93
    whole = mask == 1
    torch.testing.assert_close(cut_out[whole], picture[whole])
    assert bool((cut_out[mask == 0] == 1).all())


def test_a_picture_smaller_than_it_works_at_is_not_enlarged(host: Host) -> None:
    picture, _ = before_a_wall("crab")
    mask = cut(host, picture[:, 10:190, 60:240])[0]
    assert set(mask.unique().tolist()) == {0.0, 1.0}


def test_a_batch_and_alpha(host: Host) -> None:
    """Each picture by itself; a fourth channel is left to Subject."""
    pictures = torch.cat([before_a_wall(name)[0] for name in ("crab", "guitar")])[:, ::2, ::2]
    rgba = torch.cat([pictures, torch.ones(2, 100, 150, 1)], dim=-1)
    masks, cut_outs = cut(host, rgba)
    assert cut_outs.shape == (2, 100, 150, 3)
    for index in range(2):
        assert torch.equal(masks[index], cut(host, pictures[index : index + 1])[0][0])


def test_points_decide(host: Host) -> None:
    """Two things: the larger one, unless points say that it is the other."""
    picture = torch.full((1, 100, 200, 3), 0.5)
    picture[:, 20:80, 20:80] = torch.tensor([0.9, 0.1, 0.1])
    picture[:, 30:70, 120:160] = torch.tensor([0.1, 0.1, 0.9])
    left, right = cut(host, picture)[0], cut(host, picture, points="0.25,0.5,0; 0.7,0.5")[0]
    assert float(left[:, 20:80, 20:80].mean()) > 0.95 and float(left[..., 110:].max()) == 0
    assert float(right[:, 30:70, 120:160].mean()) > 0.95
    assert float(right[:, 45:55, 45:55].max()) == 0


@pytest.mark.parametrize(
    ("box", "points", "sentence"),
    [
        ("0,0,1,1", "", "box: expected room around the subject"),
        ("0.2,0.2,0.1,0.1", "", "box"),
        ("", "2,2", "points: expected"),
    ],
)
def test_bad_places(host: Host, box: str, points: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        cut(host, torch.rand(1, 40, 40, 3), box, points)


def test_nothing_to_be_found(host: Host) -> None:
    with pytest.raises(ValueError, match="image: expected a subject that differs"):
        cut(host, torch.rand(1, 40, 40, 3), "0.4,0.4,0.6,0.6", "0.5,0.5,0")


def test_nearly_everything_is_warned_of(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    picture = torch.full((1, 300, 300, 3), 0.9)
    picture[:, :2], picture[:, -2:], picture[:, :, :2] = 0.1, 0.1, 0.1
    with caplog.at_level(logging.WARNING):
        cut(host, picture, "0.005,0.005,1,0.995")
    assert "nearly all of it was taken" in caplog.text
