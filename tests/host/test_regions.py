"""A subject's region: a mask of the generated picture in place of the box's rectangle."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from host_models import (
    Base,
    Host,
    cfg_guider,
    denoise_once,
    random_context,
    random_noise,
    relative_error,
)
from test_batching import POSITIONS, one_branch
from test_nodes import Encoder, branch_of

from subject_diffusion_core.location_mask import boxes_to_location_mask


@pytest.fixture(scope="module")
def base(host: Host) -> Base:
    with torch.inference_mode():
        return host.make_base()


def subject(host: Host, region: torch.Tensor | None, box: str = "", **options: Any) -> Any:
    node = host.subject_node.SubjectDiffusionSubject
    image = torch.rand(1, 12, 12, 3)
    ((made,),) = node.execute(image, "dog", box, 1.0, region=region, **options).args
    return made


def disc(height: int, width: int) -> torch.Tensor:
    """A soft-edged disc in the right half of the picture, (1, H, W)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = torch.hypot((y + 0.5) / height - 0.5, (x + 0.5) / width - 0.7)
    return ((0.25 - distance) * 20 + 0.5).clamp(0, 1)[None]


def rectangle(box: tuple[float, ...]) -> torch.Tensor:
    """The box as a mask of 64x64; its edges lie between pixels."""
    x1, y1, x2, y2 = (round(edge * 64) for edge in box)
    mask = torch.zeros(1, 64, 64)
    mask[:, y1:y2, x1:x2] = 1
    return mask


def with_regions(branch: Any, *regions: torch.Tensor | None) -> Any:
    return replace(branch, subject_regions=regions)


def mask_of(host: Host, model: Any, branch: Any, size: tuple[int, int], frame: Any = None) -> Any:
    (patcher,) = model.get_additional_models()
    whole = host.sampling_run.WHOLE_PICTURE
    framed = host.run_attachment.BranchCond(value=branch, frame=frame or whole)
    return patcher.model.location_mask(framed, *size)


def test_box_around_the_region(host: Host) -> None:
    region = torch.zeros(1, 20, 40)
    region[:, 5:10, 8:32] = 0.6
    region[:, 0, 0] = 0.4
    made = subject(host, region)
    assert made.box.edges == (0.2, 0.25, 0.8, 0.5)
    assert torch.equal(made.region, region[0])
    written = subject(host, region[0], box="0,0,0.5,0.5")
    assert written.box.edges == (0.0, 0.0, 0.5, 0.5)


@pytest.mark.parametrize("polarity", ["inside", "outside"])
def test_the_region_is_the_location_mask(
    host: Host, base: Base, tmp_path: Path, polarity: str
) -> None:
    """Soft values stay; other subjects keep their rectangles."""
    loaded = host.make_adapter(base, tmp_path, mask_polarity=polarity)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    plain = host.branch(loaded, 2)
    region = disc(17 * 4, 13 * 4)[0]
    got = mask_of(host, model, with_regions(plain, region, None), (17, 13))
    averaged = region.reshape(17, 4, 13, 4).mean(dim=(1, 3))
    boxes = plain.subject_boxes_xyxy[None, 1:2]
    other = boxes_to_location_mask(boxes, torch.tensor([[True]]), 17, 13)[0, 0]
    inside = torch.maximum(averaged, other)
    outside = (1 - averaged) * (1 - other)
    torch.testing.assert_close(got[0, 0], inside if polarity == "inside" else outside)
    assert bool(((averaged > 0.1) & (averaged < 0.9)).any())


def test_a_rectangular_region_equals_the_box(host: Host, base: Base, tmp_path: Path) -> None:
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    box = (0.25, 0.125, 0.75, 0.5)
    plain = host.branch(loaded, 1)
    plain.subject_boxes_xyxy[0] = torch.tensor(box)
    noise, context = random_noise(base, 2, (13, 17)), random_context(base)
    drawn = with_regions(plain, rectangle(box)[0])
    results = [
        one_branch(model, host.conditioning(context, branch), noise) for branch in (plain, drawn)
    ]
    assert relative_error(*results) < 1e-5
    whole = with_regions(plain, torch.ones(3, 5))
    assert (
        relative_error(one_branch(model, host.conditioning(context, whole), noise), results[0])
        > 1e-3
    )


def test_region_in_an_area_conditioning(host: Host, base: Base, tmp_path: Path) -> None:
    """Inside an area the model sees the cut-out of the region."""
    loaded = host.make_adapter(base, tmp_path, **POSITIONS)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    height, width, top, left = 8, 10, 4, 3
    region = disc(64, 64)[0]  # four pixels a cell
    branch = with_regions(host.branch(loaded, 1), region)
    branch.subject_boxes_xyxy[0] = torch.tensor([0.4, 0.3, 0.95, 0.7])
    frame = (left / 16, top / 16, (left + width) / 16, (top + height) / 16)
    got = mask_of(host, model, branch, (height, width), frame)[0, 0]
    cut = region[top * 4 : (top + height) * 4, left * 4 : (left + width) * 4]
    torch.testing.assert_close(got, cut.reshape(height, 4, width, 4).mean(dim=(1, 3)))
    area = (height, width, top, left)
    entry = host.conditioning(random_context(base), branch, area=area)
    picture = denoise_once(cfg_guider(model, entry, entry), random_noise(base), 500)
    assert bool(picture.isfinite().all())


def test_encode_carries_the_region_to_every_view(host: Host, tmp_path: Path) -> None:
    encoder = Encoder(host, tmp_path)
    region = disc(30, 30)
    first = replace(subject(host, None, box="0,0,1,1"), images=torch.rand(2, 9, 9, 3))
    positive, image_only, negative = encoder.encode(first, subject(host, region))
    branch = branch_of(host, positive)
    assert branch.subject_regions[:2] == (None, None)
    assert torch.equal(branch.subject_regions[2], region[0])
    assert branch_of(host, image_only) is branch
    assert branch_of(host, negative).is_null


def test_layout_draws_the_region_and_warns_of_stretching(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    node = host.layout_node.SubjectDiffusionLayout
    made = subject(host, disc(64, 128))
    with caplog.at_level(logging.WARNING):
        with_region = node.execute((made,), 256, 128)[1]
        assert "stretched" not in caplog.text
        node.execute((made,), 128, 128)
    assert (
        "Subject 1's region is 128x64 and will be stretched to the picture's 128x128" in caplog.text
    )
    without = node.execute((replace(made, region=None),), 256, 128)[1]
    assert float((with_region - without).abs().max()) > 0.1


def test_an_adapter_of_segmentations_gets_the_subjects_own(host: Host, tmp_path: Path) -> None:
    """Trained with `mask_kind` "segmentation": the subject's mask fills its box. Without a mask the
    box stays a rectangle, and a region comes before both."""
    encoder = Encoder(host, tmp_path, mask_kind="segmentation")
    model, _ = host.apply_node.apply_adapter(encoder.base.model, encoder.base.clip, encoder.loaded)
    letter = torch.zeros(8, 8)  # an L, as large as the box in latent cells
    letter[:, :4], letter[4:] = 1, 1
    mask = torch.zeros(1, 12, 12)
    mask[0, 3:11, 2:10] = letter
    box = "0.25,0.5,0.75,1"
    node = host.subject_node.SubjectDiffusionSubject
    ((masked,),) = node.execute(torch.rand(1, 12, 12, 3), "dog", box, 1.0, mask=mask).args
    subjects = (masked, subject(host, None, box), replace(masked, region=disc(16, 16)[0]))
    masks = [
        mask_of(host, model, branch_of(host, encoder.encode(one)[0]), (16, 16))[0, 0]
        for one in subjects
    ]
    wanted = torch.zeros(3, 16, 16)
    wanted[0, 8:16, 4:12], wanted[1, 8:16, 4:12], wanted[2] = letter, 1, disc(16, 16)[0]
    torch.testing.assert_close(torch.stack(masks), wanted)
    boxes = Encoder(host, tmp_path, mask_kind="box")
    assert branch_of(host, boxes.encode(masked)[0]).subject_masks == (None,)
