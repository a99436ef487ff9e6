"""The encoder that judges: EfficientNet-Lite2, which takes no part in training or conditioning."""

from __future__ import annotations

from ..networks.efficientnet import PooledEfficientNet, load_efficientnet

INPUT_SIDE = 128
NUMBER = 2


class MetricEncoder(PooledEfficientNet):
    """The one that judges."""


def load_metric_encoder() -> MetricEncoder:
    """The encoder with its published weights, frozen.

    Raises:
        ModuleNotFoundError: its packages are not installed.
    """
    return MetricEncoder(load_efficientnet(NUMBER))
