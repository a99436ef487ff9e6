"""A heat map over a picture."""

from __future__ import annotations

import torch
from subject_diffusion_pack.nodes.attention_maps.heat_overlay import draw_heat

WHOLE = (0.0, 0.0, 1.0, 1.0)


def test_a_panel_is_large_enough_to_read() -> None:
    small = draw_heat(torch.rand(64, 32, 3), torch.rand(4, 2), WHOLE, "dog", 0, 0.7)
    assert small.shape == (384, 192, 3)
    large = draw_heat(torch.rand(400, 500, 3), torch.rand(4, 5), WHOLE, "dog", 0, 0.7)
    assert large.shape == (400, 500, 3)
    assert float(small.min()) >= 0.0 and float(small.max()) <= 1.0


def test_hot_places_have_colour_and_cold_ones_are_grey() -> None:
    heat = torch.zeros(2, 2)
    heat[1, 1] = 1.0
    panel = draw_heat(torch.rand(384, 384, 3), heat, WHOLE, "", 0, 0.7)
    spread = panel.amax(-1) - panel.amin(-1)
    assert float(spread[340:370, 340:370].mean()) > 3 * float(spread[60:150, 60:150].mean())


def test_without_opacity_the_picture_is_grey() -> None:
    picture = torch.rand(384, 384, 3)
    panel = draw_heat(picture, torch.rand(4, 4), WHOLE, "", 0, 0.0)
    inside = (slice(40, 340), slice(40, 340))
    wanted = picture.mean(-1, keepdim=True).expand_as(picture)[inside]
    torch.testing.assert_close(panel[inside], wanted, rtol=0, atol=0.003)


def test_a_box_has_its_subjects_colour() -> None:
    picture, heat = torch.zeros(384, 384, 3), torch.zeros(2, 2)
    first, second = (draw_heat(picture, heat, WHOLE, "", number, 0.5) for number in (0, 1))
    assert not torch.equal(first[200, 0], second[200, 0])
    assert torch.equal(first[200, 200], second[200, 200])
