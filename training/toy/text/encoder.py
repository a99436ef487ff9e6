"""The training side's image encoder, EfficientNet-Lite0, with its last layer."""

from __future__ import annotations

from ...networks.efficientnet import PooledEfficientNet, load_efficientnet

LITE0 = 0


def training_encoder() -> PooledEfficientNet:
    """Features of whole pictures, in which labels and scenes are told apart."""
    return PooledEfficientNet(load_efficientnet(LITE0))
