# Shapes: B batch, S picture side, P = G*G patch tokens of a G x G grid, C features of a patch.
"""The tiny model's image encoder: EfficientNet-Lite0 up to stride 16, batch norms folded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ..errors import require_shape

FINE_CHANNELS, COARSE_CHANNELS = 40, 112
FINE_STRIDE, COARSE_STRIDE = 8, 16
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


@dataclass(frozen=True, kw_only=True)
class VisionGeometry:
    """How large reference pictures are, and into what they are cut.

    Attributes:
        image_size: S, side of the reference picture in pixels, a multiple of 16.
        patch_size: side of a patch in pixels, 8 or 16.
        color_cell: side in pixels of the cells whose mean colours a patch keeps.
    """

    image_size: int = 96
    patch_size: int = 8
    color_cell: int = 2

    def __post_init__(self) -> None:
        if self.patch_size not in (FINE_STRIDE, COARSE_STRIDE) or self.image_size % COARSE_STRIDE:
            raise ValueError(
                "vision: expected patches of 8 or 16 pixels and a picture size that is a multiple "
                f"of 16, got {self.patch_size} and {self.image_size}. Correct the configuration."
            )

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> VisionGeometry:
        """As the tiny base's file states it: the sizes, and the name of the class."""
        return cls(**{key: value for key, value in config.items() if key != "class"})

    @property
    def grid_size(self) -> int:
        """G, patches along one side."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        """P.

        >>> VisionGeometry().num_patches
        144
        """
        return self.grid_size**2

    @property
    def patch_dim(self) -> int:
        """C.

        >>> VisionGeometry().patch_dim
        200
        """
        fine = FINE_CHANNELS * (self.patch_size // FINE_STRIDE) ** 2
        return fine + COARSE_CHANNELS + 3 * (self.patch_size // self.color_cell) ** 2

    @property
    def image_embed_dim(self) -> int:
        """Width of the image embedding: a mean and a deviation for each feature."""
        return 2 * self.patch_dim


class TinyVisionOutput(NamedTuple):
    """What the encoder says about a batch of reference images.

    Attributes:
        patch_embeds: (B, P, C), standardised, row-major: the 40 fine channels of each cell of
            stride 8 under the patch (channel-major, then row, column), the 112 coarse channels of
            the cell of stride 16 that it lies in, and the RGB means of its colour cells (ordered
            like the fine ones).
        image_embeds: (B, 2C): mean and standard deviation of the patch features over the grid.
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

    def __init__(self, geometry: VisionGeometry = VisionGeometry()) -> None:
        super().__init__()
        self.geometry = geometry
        self.register_buffer("patch_mean", torch.zeros(geometry.patch_dim))
        self.register_buffer("patch_std", torch.ones(geometry.patch_dim))
        self.stem = SamePadConv2d(3, STEM_CHANNELS, 3, stride=2)
        self.blocks = nn.ModuleList(InvertedResidual(spec) for spec in block_specs())

    def forward(self, pixel_values: torch.Tensor) -> TinyVisionOutput:
        """Encode reference images.

        Args:
            pixel_values: (B, 3, S, S), normalised by `normalise_pixels`.
        """
        geometry = self.geometry
        size = geometry.image_size
        advice = f"Prepare references at {size} pixels"
        require_shape("pixel_values", pixel_values, ("B", 3, size, size), advice)
        features = F.relu6(self.stem(pixel_values))
        taps = {}
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in (FINE_BLOCK, COARSE_BLOCK):
                taps[index] = features
        fine = F.pixel_unshuffle(taps[FINE_BLOCK], geometry.patch_size // FINE_STRIDE)
        repeat = COARSE_STRIDE // geometry.patch_size
        coarse = taps[COARSE_BLOCK].repeat_interleave(repeat, 2).repeat_interleave(repeat, 3)
        means = F.avg_pool2d(pixel_values, geometry.color_cell)
        colors = F.pixel_unshuffle(means, geometry.patch_size // geometry.color_cell)
        raw = torch.cat((fine, coarse, colors), dim=1).flatten(2).transpose(1, 2)
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
        A state dict for `TinyVision.load_state_dict`, without the statistics of its patches.
    """
    layers = [("stem", "_conv_stem", "_bn0")]
    for index, spec in enumerate(block_specs()):
        source, target = f"_blocks.{index}.", f"blocks.{index}."
        if spec.expansion > 1:
            layers.append((target + "expand", source + "_expand_conv", source + "_bn0"))
        layers.append((target + "depthwise", source + "_depthwise_conv", source + "_bn1"))
        layers.append((target + "project", source + "_project_conv", source + "_bn2"))
    folded = {}
    for target, convolution, norm in layers:
        inverse_std = (state_dict[f"{norm}.running_var"].double() + _BATCH_NORM_EPS).rsqrt()
        gain = state_dict[f"{norm}.weight"].double() * inverse_std
        weight = state_dict[f"{convolution}.weight"].double() * gain[:, None, None, None]
        bias = state_dict[f"{norm}.bias"] - state_dict[f"{norm}.running_mean"] * gain
        folded[f"{target}.weight"], folded[f"{target}.bias"] = weight.float(), bias.float()
    return folded
