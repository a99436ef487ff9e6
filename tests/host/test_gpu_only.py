"""Pictures and masks on another device than the pack's own tensors: no node mixes the two."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from host_models import Host
from other_device import GpuTensor
from test_nodes import Encoder

PLACES = [("gpu", "gpu"), ("gpu", "cpu"), ("cpu", "gpu"), ("gpu", None)]


@pytest.fixture(autouse=True)
def without_inference_mode() -> Iterator[None]:
    """What stands in for a GPU cannot be written to in inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        yield


@pytest.fixture(scope="module")
def encoder(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(host, tmp_path_factory.mktemp("gpu_only"))


def picture(device: str) -> torch.Tensor:
    pixels = torch.rand(1, 40, 48, 3, generator=torch.Generator().manual_seed(1))
    return GpuTensor(pixels) if device == "gpu" else pixels


def mask(device: str | None) -> torch.Tensor | None:
    if device is None:
        return None
    painted = torch.zeros(1, 40, 48)
    painted[:, 8:30, 10:40] = 1.0
    return GpuTensor(painted) if device == "gpu" else painted


def make_subjects(host: Host, image_at: str, mask_at: str | None, **inputs: Any) -> Any:
    node = host.subject_node.SubjectDiffusionSubject
    values = {"label": "dog", "box": "0.1,0.1,0.6,0.7", "strength": 0.8, **inputs}
    return node.execute(picture(image_at), mask=mask(mask_at), **values).args[0]


def test_the_stand_in_refuses_to_mix() -> None:
    here, there = torch.rand(2, 3), GpuTensor(torch.rand(2, 3))
    assert (there + 1).device == there.device != here.device
    assert type(there.cpu()) is type(there.to(here)) is torch.Tensor
    with pytest.raises(RuntimeError, match="same device"):
        there + here
    with pytest.raises(RuntimeError):
        there.numpy()


@pytest.mark.parametrize(("image_at", "mask_at"), PLACES)
def test_from_subject_to_conditionings(
    host: Host, encoder: Encoder, image_at: str, mask_at: str | None
) -> None:
    subjects = make_subjects(host, image_at, mask_at, region=mask("gpu"), box="")
    wanted = make_subjects(host, "cpu", None if mask_at is None else "cpu", region=mask("cpu"))
    assert host.layout_preview.draw_layout(subjects, 128, 128).shape == (1, 512, 512, 3)
    view = host.reference_view_node.SubjectDiffusionReferenceView
    shown = view.execute(subjects, encoder.loaded).args[0]
    assert torch.equal(shown, view.execute(wanted, encoder.loaded).args[0])
    encode = host.encode_node.SubjectDiffusionEncode.execute
    inputs = (encoder.clip, encoder.vision, encoder.loaded)
    got = encode(*inputs, subjects, "a dog", "", negative_image=picture(image_at)).args
    for (text, values), (wanted_text, _) in zip(
        got[0], encode(*inputs, wanted, "a dog", "").args[0], strict=True
    ):
        assert torch.equal(text, wanted_text)
        assert values["model_conds"]


@pytest.mark.parametrize(("image_at", "mask_at"), PLACES)
def test_saved_subjects(
    host: Host, encoder: Encoder, tmp_path: Path, image_at: str, mask_at: str | None
) -> None:
    subjects = make_subjects(host, image_at, mask_at)
    encoded = host.image_encoding.encode_subjects(
        encoder.vision, subjects, encoder.loaded.pictures, keep=True
    )
    path = str(tmp_path / "subjects.safetensors")
    host.subject_files.write_subjects(path, encoded)
    (loaded,) = host.subject_files.read_subjects(path, 0)
    assert loaded.images.shape[-1] == 3


def test_boxes_from_masks(host: Host) -> None:
    painted = mask("gpu")
    assert painted is not None
    box = host.boxes.parse_box(painted, "Subject 1")
    assert box == host.boxes.parse_box(mask("cpu"), "Subject 1")


def test_thumbnails_of_mixed_tensors() -> None:
    from subject_diffusion_core.files.subject_file import make_thumbnail

    for image_at, mask_at in PLACES:
        painted = mask(mask_at)
        small = make_thumbnail(picture(image_at)[0], None if painted is None else painted[0])
        assert small.shape == (40, 48, 4)


def test_heat_over_a_picture(host: Host) -> None:
    draw = host.heat_overlay.draw_heat
    panel = draw(picture("gpu")[0], torch.rand(16, 16), (0.1, 0.1, 0.6, 0.7), "dog", 0, 0.7)
    assert panel.shape[-1] == 3


@pytest.mark.parametrize(("image_at", "mask_at"), PLACES)
def test_a_reference_moved_to_its_place(host: Host, image_at: str, mask_at: str | None) -> None:
    (subject,) = make_subjects(host, image_at, "gpu")
    moving = host.moved_reference
    target = moving.target_mask(mask(mask_at), subject, 32, 48)
    moved = moving.move_reference(subject.images[0], subject.masks[0], target, "moments", 0.5)
    assert moved.image.device == moved.mask.device == torch.device("cpu")
    assert float(moved.mask.max()) > 0.5


def test_a_picture_that_is_cut_out(host: Host) -> None:
    """Whatever the segmenter is, its mask and the picture are put together on the CPU."""

    class Everything:
        def require_size(self, width: int, height: int) -> None:
            pass

        def segment(self, pixels: torch.Tensor, *_: object) -> torch.Tensor:
            return pixels.float().cpu().mean(dim=-1) >= 0.0

    cut = host.segment_node.SubjectDiffusionSegment.execute
    whole, cut_out = cut(picture("gpu"), Everything(), "0,0,1,1", "", True, True).args
    assert whole.device == cut_out.device == torch.device("cpu")
    assert torch.equal(cut_out, picture("cpu"))
