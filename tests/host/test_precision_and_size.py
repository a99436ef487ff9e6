"""What the adapter computes in, and pictures of every size in steps of 8 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import pytest
import torch
from host_models import (
    Base,
    Host,
    cfg_guider,
    denoise_once,
    random_context,
    random_noise,
    relative_error,
    sample,
)

POSITIONS = {"patch_positions": True, "query_positions": True, "token_positions": True}
HALF, BRAIN, FULL = torch.float16, torch.bfloat16, torch.float32


def predict(host: Host, base: Base, loaded: Any, seen: set[torch.dtype]) -> torch.Tensor:
    """One model call; `seen` collects the types that the gated layers get and give."""
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    (patcher,) = model.get_additional_models()
    hooks = [
        layer.register_forward_hook(lambda _m, args, out: seen.update((args[0].dtype, out.dtype)))
        for layer in patcher.model.gated_layers
    ]
    positive = host.conditioning(random_context(base), host.branch(loaded, 2))
    got = denoise_once(cfg_guider(model, positive, positive), random_noise(base), 500)
    for hook in hooks:
        hook.remove()
    return got


@pytest.mark.parametrize("family", ["sd2", "sd15"])
@pytest.mark.parametrize(
    ("stored", "cast", "computed"),
    [
        (FULL, None, FULL),
        (HALF, None, HALF),
        (BRAIN, None, BRAIN),
        (HALF, FULL, FULL),
        (BRAIN, FULL, FULL),
        (HALF, BRAIN, BRAIN),
    ],
    ids=["fp32", "fp16", "bf16", "fp16 in fp32", "bf16 in fp32", "fp16 in bf16"],
)
def test_the_adapter_computes_in_the_models_type(
    host: Host,
    tmp_path: Path,
    family: str,
    stored: torch.dtype,
    cast: torch.dtype | None,
    computed: torch.dtype,
) -> None:
    exact = host.make_base(family)
    loaded = host.make_adapter(exact, tmp_path, **POSITIONS)
    wanted = predict(host, exact, loaded, set())
    base = host.make_base(family, stored, cast)
    weight = next(base.model.model.diffusion_model.parameters())
    assert weight.dtype == stored
    seen: set[torch.dtype] = set()
    got = predict(host, base, loaded, seen)
    assert seen == {computed}
    assert relative_error(got, wanted) < (1e-6 if stored == FULL else 0.05)


def test_what_comfyui_chooses_on_a_cpu(host: Host) -> None:
    """Stable Diffusion's types are offered; a CPU computes in float32."""
    offered = [HALF, BRAIN, FULL]
    management = comfy.model_management
    dtype = management.unet_dtype(model_params=10**9, supported_dtypes=offered)
    cast = management.unet_manual_cast(dtype, management.get_torch_device(), offered)
    assert (cast or dtype) == FULL
    (tiny,) = {parameter.dtype for parameter in host.make_base().model.model.parameters()}
    assert tiny == FULL


@pytest.mark.parametrize("family", ["tiny", "sd2"])
@pytest.mark.parametrize(
    "size", [(64, 64), (72, 136), (200, 88), (104, 320)], ids=lambda size: f"{size[0]}x{size[1]}"
)
def test_sizes_in_steps_of_8_pixels(
    host: Host, tmp_path: Path, family: str, size: tuple[int, int]
) -> None:
    """A batch gives what its samples give alone, at any size."""
    base = host.make_base(family)
    loaded = host.make_adapter(base, tmp_path, **POSITIONS)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    positive = host.conditioning(random_context(base), host.branch(loaded, 2))
    negative = host.conditioning(random_context(base), host.branch(loaded, 0))
    noise = random_noise(base, batch=2, size=(size[1] // 8, size[0] // 8))

    def run(noise: torch.Tensor) -> torch.Tensor:
        return sample(cfg_guider(model, positive, negative, cfg=2.0), noise, steps=2)

    both = run(noise)
    assert both.shape == noise.shape
    singles = torch.cat([run(one[None]) for one in noise])
    assert relative_error(both, singles) < 1e-3
