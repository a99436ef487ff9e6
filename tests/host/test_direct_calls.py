"""UNet calls that no sampling run prepared: samplers of other packs call the model directly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import pytest
import torch
from host_models import Host, random_context, random_noise


def call_directly(model: Any, x: torch.Tensor, context: torch.Tensor, percent: float) -> Any:
    """One denoised latent, at a share of the sampling."""
    comfy.model_management.load_models_gpu([model, *model.get_additional_models()])
    sigma = torch.tensor([model.get_model_object("model_sampling").percent_to_sigma(percent)])
    options = dict(model.model_options["transformer_options"])
    options |= {"wrappers": model.wrappers, "sigmas": sigma, "cond_or_uncond": [0]}
    return model.model.apply_model(x, sigma, c_crossattn=context, transformer_options=options)


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.4), (0.6, 1.0), (0.6, 0.8)])
def test_start_and_end_hold(host: Host, tmp_path: Path, start: float, end: float) -> None:
    """Outside of its range the adapter is not there, bit for bit; inside it acts."""
    base = host.make_base()
    loaded = host.make_adapter(base, tmp_path)
    x, context = random_noise(base), random_context(base)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded, 1.0, start, end)
    outside, inside = call_directly(model, x, context, 0.5), (start + min(end, 0.9)) / 2
    acting = call_directly(model, x, context, inside)
    assert torch.equal(outside, call_directly(base.model, x, context, 0.5))
    assert not torch.equal(acting, call_directly(base.model, x, context, inside))
