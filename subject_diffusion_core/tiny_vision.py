# Shapes: B batch, P = 64 patch tokens of an 8x8 grid, C = 320 features of a patch.
"""The tiny model's image encoder: EfficientNet-Lite0 up to stride 16, batch norms folded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .errors import require_shape

IMAGE_SIZE = 128
GRID_SIZE = 8
NUM_PATCHES = GRID_SIZE * GRID_SIZE
FINE_CHANNELS, COARSE_CHANNELS = 40, 112
COLOR_CELL = 4  # pixels
COLOR_CHANNELS = 3 * (IMAGE_SIZE // GRID_SIZE // COLOR_CELL) ** 2
PATCH_DIM = 4 * FINE_CHANNELS + COARSE_CHANNELS + COLOR_CHANNELS
IMAGE_EMBED_DIM = 2 * PATCH_DIM
FINE_BLOCK, COARSE_BLOCK = 4, 10
_BATCH_NORM_EPS = 1e-3

STEM_CHANNELS = 32


class BlockSpec(NamedTuple):
    """One inverted-residual block."""

    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    expansion: int


# (kernel size, stride of the first block, expansion, output channels, number of blocks) of each
# stage
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
)


def block_specs() -> list[BlockSpec]:
    """The 11 blocks of EfficientNet-Lite0 that are kept.

    >>> block_specs()[FINE_BLOCK].out_channels, block_specs()[COARSE_BLOCK].out_channels
    (40, 112)
    """
    specs, channels = [], STEM_CHANNELS
    for kernel_size, stride, expansion, out_channels, num_blocks in _STAGES:
        for index in range(num_blocks):
            block_stride = stride if index == 0 else 1
            specs.append(BlockSpec(channels, out_channels, kernel_size, block_stride, expansion))
            channels = out_channels
    return specs


class TinyVisionOutput(NamedTuple):
    """What the encoder says about a batch of reference images.

    Attributes:
        patch_embeds: (B, 64, 320), standardised, row-major 8x8 grid: 40 channels of the 2x2 finer
            cells under the patch (channel-major, then row, column: 160), 112 coarse channels, and
            the RGB means of the patch's 4x4 cells of 4 pixels (48, ordered like the finer ones).
        image_embeds: (B, 640): mean and standard deviation of the patch features over the grid.
    """

    patch_embeds: torch.Tensor
    image_embeds: torch.Tensor


class SamePadConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "same" padding: at stride 2 the odd pixel is right and below.

    The padding is that of even input sizes, the only ones here.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride=stride, groups=groups)
        total = kernel_size - stride
        before, after = total // 2, total - total // 2
        self.margins = (before, after, before, after) if total > 0 else (0, 0, 0, 0)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        return super().forward(F.pad(input, self.margins))


class InvertedResidual(nn.Module):
    """MBConv without squeeze-and-excitation: expand, depthwise, project; a skip if shapes agree."""

    def __init__(self, spec: BlockSpec) -> None:
        super().__init__()
        hidden = spec.in_channels * spec.expansion
        self.expand = SamePadConv2d(spec.in_channels, hidden, 1) if spec.expansion > 1 else None
        self.depthwise = SamePadConv2d(hidden, hidden, spec.kernel_size, spec.stride, groups=hidden)
        self.project = SamePadConv2d(hidden, spec.out_channels, 1)
        self.has_skip = spec.stride == 1 and spec.in_channels == spec.out_channels

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        hidden = features if self.expand is None else F.relu6(self.expand(features))
        projected: torch.Tensor = self.project(F.relu6(self.depthwise(hidden)))
        return projected + features if self.has_skip else projected


class TinyVision(nn.Module):
    """Features of a reference image: fine (stride 8) for looks, coarse (stride 16) for content, and
    the colours themselves, which a network trained to classify keeps only in part.

    Each feature is standardised, (x - patch_mean) / patch_std over the training references: raw
    ones reach +-50 and share the grounding net's layer norm with position features within +-1.
    """

    patch_mean: torch.Tensor
    patch_std: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("patch_mean", torch.zeros(PATCH_DIM))
        self.register_buffer("patch_std", torch.ones(PATCH_DIM))
        self.stem = SamePadConv2d(3, STEM_CHANNELS, 3, stride=2)
        self.blocks = nn.ModuleList(InvertedResidual(spec) for spec in block_specs())

    def forward(self, pixel_values: torch.Tensor) -> TinyVisionOutput:
        """Encode reference images.

        Args:
            pixel_values: (B, 3, 128, 128), normalised by `normalise_pixels`.
        """
        expected = ("B", 3, IMAGE_SIZE, IMAGE_SIZE)
        require_shape("pixel_values", pixel_values, expected, "Prepare references at 128 pixels")
        features = F.relu6(self.stem(pixel_values))
        taps = {}
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in (FINE_BLOCK, COARSE_BLOCK):
                taps[index] = features
        fine = F.pixel_unshuffle(taps[FINE_BLOCK], 2)  # 40 x 16 x 16 -> 160 x 8 x 8
        means = F.avg_pool2d(pixel_values, COLOR_CELL)
        colors = F.pixel_unshuffle(means, IMAGE_SIZE // GRID_SIZE // COLOR_CELL)
        raw = torch.cat((fine, taps[COARSE_BLOCK], colors), dim=1).flatten(2).transpose(1, 2)
        patch_embeds = (raw - self.patch_mean) / self.patch_std
        deviation, mean = torch.std_mean(patch_embeds, dim=1, correction=0)
        return TinyVisionOutput(patch_embeds, torch.cat((mean, deviation), dim=-1))


def normalise_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """RGB in 0..1 -> (255 * rgb - 127) / 128, what EfficientNet-Lite was trained on.

    >>> normalise_pixels(torch.tensor([0.0, 1.0]))
    tensor([-0.9922,  1.0000])
    """
    return (pixels * 255 - 127) / 128


def fold_efficientnet_lite0(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert published EfficientNet-Lite0 weights to `TinyVision`, folding every batch norm into
    its convolution.

    w' = w * gamma / sqrt(var + 1e-3), b' = beta - mean * gamma / sqrt(var + 1e-3).

    Args:
        state_dict: of the PyTorch port `efficientnet_lite_pytorch` (`_conv_stem`, `_bn0`,
            `_blocks.N._expand_conv`, ...); parts beyond block 10 are ignored.

    Returns:
        A state dict for `TinyVision.load_state_dict`.
    """
    layers = [("stem", "_conv_stem", "_bn0")]
    for index, spec in enumerate(block_specs()):
        source, target = f"_blocks.{index}.", f"blocks.{index}."
        if spec.expansion > 1:
            layers.append((target + "expand", source + "_expand_conv", source + "_bn0"))
        layers.append((target + "depthwise", source + "_depthwise_conv", source + "_bn1"))
        layers.append((target + "project", source + "_project_conv", source + "_bn2"))
    folded = {"patch_mean": torch.zeros(PATCH_DIM), "patch_std": torch.ones(PATCH_DIM)}
    for target, convolution, norm in layers:
        inverse_std = (state_dict[f"{norm}.running_var"].double() + _BATCH_NORM_EPS).rsqrt()
        gain = state_dict[f"{norm}.weight"].double() * inverse_std
        weight = state_dict[f"{convolution}.weight"].double() * gain[:, None, None, None]
        bias = state_dict[f"{norm}.bias"] - state_dict[f"{norm}.running_mean"] * gain
        folded[f"{target}.weight"], folded[f"{target}.bias"] = weight.float(), bias.float()
    return folded
