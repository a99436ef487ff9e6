"""Quantised checkpoints, as ComfyUI's own loaders read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from host_models import (
    Base,
    Host,
    cfg_guider,
    denoise_once,
    make_adapter_for,
    random_context,
    random_noise,
    relative_error,
)
from stock_unet import SCALED_FP8, layer_formats, load_stock_base

from subject_diffusion_core import checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quantised")


def predict(host: Host, base: Base, loaded: Any, *schedule: float) -> torch.Tensor:
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded, 1.0, *schedule)
    positive = host.conditioning(random_context(base), host.branch(loaded, 2))
    return denoise_once(cfg_guider(model, positive, positive), random_noise(base), 500)


def plain(host: Host, base: Base) -> torch.Tensor:
    positive = host.conditioning(random_context(base), None)
    return denoise_once(cfg_guider(base.model, positive, positive), random_noise(base), 500)


def adapter_within_the_scales(host: Host, base: Base, folder: Path) -> Any:
    """ComfyUI keeps the scale of a weight that it patches: as in real adapters, no weight is much
    larger than the base's."""
    adapter = make_adapter_for(base)
    for name, weight in adapter.unet.items():
        if ".attn2.to_" in name:
            adapter.unet[name] = weight * 0.25
    checkpoint.save(folder / "adapter.safetensors", adapter)
    return host.registry.load_adapter(folder / "adapter.safetensors")


@pytest.fixture(params=[SCALED_FP8, "float8_e4m3fn", "int8_tensorwise", "nvfp4"])
def quantised(host: Host, folder: Path, request: pytest.FixtureRequest) -> Base:
    """A base in one of the forms that this ComfyUI knows."""
    if request.param not in {SCALED_FP8, *layer_formats()}:
        pytest.skip(f"this ComfyUI knows no {request.param}")
    return load_stock_base(host, folder, request.param)


def test_the_adapter_acts_as_on_the_whole_model(host: Host, folder: Path, quantised: Base) -> None:
    """As far from it as the quantised base is from the whole base: no weight is read wrongly."""
    whole = load_stock_base(host, folder)
    loaded = adapter_within_the_scales(host, whole, folder)
    lost = relative_error(plain(host, quantised), plain(host, whole))
    assert 0 < lost < 0.1
    wanted = predict(host, whole, loaded)
    assert relative_error(predict(host, quantised, loaded), wanted) < 2 * lost
    assert relative_error(plain(host, whole), wanted) > 4 * lost


def test_start_and_end(host: Host, folder: Path, quantised: Base) -> None:
    """ComfyUI's hooks read all weights of a model and set them in place; where it cannot, a
    sentence says so."""
    loaded = adapter_within_the_scales(host, quantised, folder)
    if can_be_switched(quantised.model):
        within = predict(host, quantised, loaded, 0.2, 0.7)
        assert relative_error(within, predict(host, quantised, loaded)) < 0.1
    else:
        with pytest.raises(ValueError, match="start_percent, end_percent: expected 0 and 1 for a"):
            predict(host, quantised, loaded, 0.2, 0.7)


def can_be_switched(model: Any) -> bool:
    """Only weights of a plain kind."""
    try:
        weights = [patches[0][0] for patches in model.get_key_patches().values()]
    except AttributeError:
        return False
    return all(type(weight) in (torch.Tensor, torch.nn.Parameter) for weight in weights)
