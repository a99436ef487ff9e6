"""Box Mask, and subjects put into an existing picture."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import comfy.sampler_helpers
import folder_paths
import numpy as np
import pytest
import torch
from graphs import Graph, GraphRunner, into_a_photo_graph
from host_models import Base, Host, random_context
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PHOTO = ROOT / "assets" / "photos" / "park.png"


def subject(host: Host, box: Any, strength: float = 1.0) -> Any:
    return host.subject.Subject(
        name="Subject 1",
        images=torch.rand(1, 8, 8, 3),
        masks=None,
        label="dog",
        box=host.boxes.parse_box(box, "Subject 1"),
        strength=strength,
    )


def box_mask(host: Host, boxes: list[Any], *size: int, grow: int = 0, feather: int = 0) -> Any:
    subjects = tuple(subject(host, box) for box in boxes)
    node = host.box_mask_node.SubjectDiffusionBoxMask
    (mask,) = node.execute(subjects, *size, grow, feather).args
    return mask


def test_a_hard_mask_is_the_box(host: Host) -> None:
    mask = box_mask(host, ["0.25,0.5,0.75,1"], 32, 16)
    wanted = torch.zeros(1, 16, 32)
    wanted[:, 8:, 8:24] = 1
    assert torch.equal(mask, wanted)


def test_grow_stops_at_the_edge(host: Host) -> None:
    mask = box_mask(host, ["0.25,0.5,0.75,1"], 32, 16, grow=3)
    wanted = torch.zeros(1, 16, 32)
    wanted[:, 5:, 5:27] = 1
    assert torch.equal(mask, wanted)


def test_feather_falls_evenly_and_keeps_the_box(host: Host) -> None:
    mask = box_mask(host, ["0.5,0,1,1"], 16, 16, feather=3)[0]
    torch.testing.assert_close(mask[4], torch.tensor([0.0] * 5 + [0.25, 0.5, 0.75] + [1.0] * 8))
    corner = box_mask(host, ["0.5,0.5,1,1"], 16, 16, feather=3)[0]
    assert float(corner[7, 7]) == pytest.approx(1 - 2**0.5 / 4)


def test_boxes_unite_in_fractions_and_pixels(host: Host) -> None:
    pixels = {"x": 24, "y": 0, "width": 8, "height": 16}
    mask = box_mask(host, ["0,0,0.25,1", pixels], 32, 16)
    wanted = torch.zeros(1, 16, 32)
    wanted[:, :, :8], wanted[:, :, 24:] = 1, 1
    assert torch.equal(mask, wanted)


def test_fractions_do_not_grow_by_rounding(host: Host) -> None:
    """0.3 * 10 is a little less than 3 as a float, 0.7 * 10 a little more than 7 in float32."""
    columns = box_mask(host, ["0.3,0,0.7,1"], 80, 80)[0, 0].nonzero()[:, 0]
    assert (int(columns[0]), int(columns[-1])) == (24, 55)


def test_a_subject_that_is_left_out_has_no_place(host: Host) -> None:
    node = host.box_mask_node.SubjectDiffusionBoxMask
    (mask,) = node.execute((subject(host, "0,0,1,1", strength=0.0),), 16, 16, 0, 0).args
    assert not mask.any()


@pytest.mark.parametrize(
    ("box", "sentence"),
    [
        ("", "Subject 1 has no box: expected the place where 'dog' shall stand"),
        ({"x": 8, "y": 0, "width": 60, "height": 8}, "expected a box inside the 64x64 picture"),
    ],
)
def test_box_mask_refuses(host: Host, box: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        box_mask(host, [box], 64, 64)


def in_latent(mask: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
    """The mask as the sampler sees it."""
    return comfy.sampler_helpers.prepare_mask(mask, latent.shape, latent.device)


@pytest.mark.parametrize("size", [(128, 128), (72, 104), (200, 136)])
@pytest.mark.parametrize("family", ["tiny", "sd2"])
@pytest.mark.parametrize("sampler_name", ["dpmpp_2m", "euler"])
def test_outside_the_mask_the_latent_stays(
    host: Host,
    comfy_nodes: Any,
    tmp_path: Path,
    size: tuple[int, int],
    family: str,
    sampler_name: str,
) -> None:
    """KSampler at denoise 0.6: bit-equal outside where the sampler's last step takes the model's
    answer as it is (DPM++ 2M); Euler's sum rounds."""
    base: Base = host.make_base(family)
    loaded = host.make_adapter(base, tmp_path)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    width, height = size
    mask = box_mask(host, ["0.1,0.2,0.55,0.9"], width, height, grow=4, feather=8)
    shape = (1, base.config["in_channels"], height // 8, width // 8)
    latent = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    (masked,) = comfy_nodes.SetLatentNoiseMask().set_mask({"samples": latent}, mask)
    negative = host.conditioning(random_context(base), host.branch(loaded, 0))
    results = []
    for seed in (0, 1):
        positive = host.conditioning(random_context(base), host.branch(loaded, 1, seed))
        sampling = (5, 3, 2.0, sampler_name, "normal", positive, negative, masked, 0.6)
        (result,) = comfy_nodes.KSampler().sample(model, *sampling)
        results.append(result["samples"])
    stays = in_latent(mask, latent) == 0
    assert 0.1 < float(stays.float().mean()) < 0.9
    scaled = model.model.latent_format
    wanted = scaled.process_out(scaled.process_in(latent))
    for result in results:
        if sampler_name == "dpmpp_2m":
            assert torch.equal(result[stays], wanted[stays])
        torch.testing.assert_close(result[stays], wanted[stays], rtol=1e-4, atol=1e-4)
        assert float((result - latent)[~stays].abs().mean()) > 0.1
    assert float((results[0] - results[1])[~stays].abs().mean()) > 1e-3


@pytest.fixture(scope="module")
def trained(host: Host, comfy_nodes: Any) -> GraphRunner:
    """Graphs with the committed weights."""
    for picture in (*(ROOT / "assets" / "subjects").glob("*.png"), PHOTO):
        shutil.copy(picture, folder_paths.get_input_directory())
    return GraphRunner()


def with_subject(label: str) -> Graph:
    graph = copy.deepcopy(into_a_photo_graph())
    graph["sigmas"]["inputs"]["steps"] = 6
    graph["image"]["inputs"]["image"] = f"{label}.png"
    graph["subject"]["inputs"]["label"] = label
    graph["encode"]["inputs"]["prompt"] = f"a photo of a {label} on a green lawn in a park"
    return graph


def test_a_subject_into_a_photo(trained: GraphRunner, host: Host) -> None:
    """The photo outside the mask pixel by pixel; inside a red crab or a brown owl."""
    with Image.open(PHOTO) as opened:
        photo = np.asarray(opened.convert("RGB")).astype(float)
    crab, owl = (trained.run(with_subject(label)).astype(float) for label in ("crab", "owl"))
    outside = (box_mask(host, ["0.25,0.4,0.75,0.9"], 128, 128, grow=4, feather=8)[0] == 0).numpy()
    for picture in (crab, owl):
        assert np.array_equal(picture[outside], photo[outside])
    middle = (slice(70, 100), slice(50, 78))
    for first, second in ((crab, photo), (owl, photo), (crab, owl)):
        assert np.abs(first[middle] - second[middle]).mean() > 30
    red, green, _ = crab[middle].mean(axis=(0, 1))
    assert red > green + 60
