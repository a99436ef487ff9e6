"""Layout's drawing and the board's small pictures: what the result will show, in its place."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from placing import make_subject
from subject_diffusion_pack.nodes.subjects.boxes import Box
from subject_diffusion_pack.nodes.subjects.layout_preview import cut_out, draw_layout
from subject_diffusion_pack.nodes.subjects.layout_report import report_layout
from subject_diffusion_pack.nodes.subjects.placement import place_subjects
from subject_diffusion_pack.nodes.subjects.subject import Subject

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def a_red_thing(scale: int = 1) -> Subject:
    """Red where its mask is, in the upper left quarter of a blue picture of 80 x 40 pixels, each
    `scale` times as large."""
    subject = make_subject(mask=(0, 0, 40, 20), box=Box(x1=0.25, y1=0.5, x2=0.75, y2=1.0))
    assert subject.masks is not None
    images = torch.where(subject.masks[..., None] > 0, torch.tensor(RED), torch.tensor(BLUE))
    larger = images.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    masks = subject.masks.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return replace(subject, images=larger, masks=masks, label="x")


@pytest.mark.parametrize("scale", [1, 60], ids=["small", "large"])
def test_the_cut_out_fills_its_box(scale: int) -> None:
    """Whether the picture is smaller than the box, as a saved subject's, or larger."""
    drawn = draw_layout((a_red_thing(scale),), 512, 512)[0]
    inside = drawn[330:440, 140:370]  # within the outline, below the label
    assert torch.equal(inside, torch.tensor(RED).expand_as(inside))


def test_board_and_drawing_show_the_same_cut_out() -> None:
    (report,) = report_layout((a_red_thing(60),), 512, 512)["subject_diffusion_layout"]
    (subject,) = report["subjects"]  # type: ignore[attr-defined]
    content = base64.b64decode(subject["thumbnail"].partition(",")[2])
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    assert pixels.shape == (48, 96, 4) and (pixels == (255, 0, 0, 255)).all()
    assert cut_out(a_red_thing(), 512).size == (40, 20)


def test_a_large_reference_is_sampled_before_it_is_converted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The drawing asks for the pixels that it needs, not for whole pictures in floating point."""
    subject = a_red_thing(60)
    converted: list[int] = []
    to_float = torch.Tensor.float

    def count(tensor: torch.Tensor) -> torch.Tensor:
        converted.append(tensor.numel())
        return to_float(tensor)

    monkeypatch.setattr(torch.Tensor, "float", count)
    draw_layout((subject,), 512, 512)
    report_layout((subject,), 512, 512)
    assert converted and max(converted) < subject.images.numel() / 12


@pytest.mark.parametrize(
    "box",
    [(0.9995, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 1e-9), (1 - 1e-9, 1 - 1e-9, 1.0, 1.0)],
    ids=str,
)
@pytest.mark.parametrize("size", [(128, 128), (2048, 64), (16, 16384)], ids=str)
def test_the_smallest_boxes(box: tuple[float, ...], size: tuple[int, int]) -> None:
    x1, y1, x2, y2 = box
    subject = replace(a_red_thing(), box=Box(x1=x1, y1=y1, x2=x2, y2=y2), label="")
    empty = draw_layout((replace(subject, box=None),), *size)
    assert not torch.equal(draw_layout((subject,), *size), empty)


def test_a_mask_of_one_pixel_finds_its_place() -> None:
    subject = make_subject(mask=(79, 39, 80, 40))
    placed = place_subjects((subject,), "reference", 0, 2048, 64)
    assert draw_layout(placed, 2048, 64).shape == (1, 16, 512, 3)
