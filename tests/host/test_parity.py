"""Training side and ComfyUI side give the same noise prediction for the same adapter file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import factories
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

from subject_diffusion_core.box_fourier import BoxFourierEmbedder, cell_position_features
from subject_diffusion_core.location_mask import boxes_to_location_mask

TIMESTEP = 601
POSITIONS = {"patch_positions": True, "query_positions": True, "token_positions": True}


def host_prediction(base: Base, guider: Any, noise: torch.Tensor) -> torch.Tensor:
    """The UNet's output, recovered from ComfyUI's denoised latent."""
    sampling = base.model.get_model_object("model_sampling")
    sigma = sampling.sigmas[TIMESTEP]
    scale = base.model.get_model_object("latent_format").scale_factor
    denoised = denoise_once(guider, noise, TIMESTEP) * scale
    x = noise * sigma
    if base.config is factories.TINY_UNET:
        return (x / (sigma**2 + 1) - denoised) * (sigma**2 + 1) ** 0.5 / sigma
    return (x - denoised) / sigma


def training_prediction(
    base: Base, adapter: Any, branch: Any, context: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """diffusers' gated UNet with the location mask as one more input channel."""
    config = adapter.config
    height, width = noise.shape[-2:]
    unet = factories.training_unet(base.config, base.unet, adapter)
    if config.query_positions:
        embedder = BoxFourierEmbedder(config.num_freqs, config.temperature)
        positions = {}
        for _ in base.config["block_out_channels"]:
            positions[height * width] = cell_position_features(height, width, embedder)
            height, width = (height + 1) // 2, (width + 1) // 2
        for block in config.adapter_blocks:
            unet.get_submodule(block.name).fuser.query_positions = positions
    batch = noise.shape[0]
    valid, boxes = branch.subject_valid[None], branch.subject_boxes_xyxy[None]
    tokens = adapter.build_grounding_net()(branch.patch_embeds[None], valid, boxes)
    mask = boxes_to_location_mask(boxes, valid, *noise.shape[-2:], config.mask_polarity)
    sigma = base.model.get_model_object("model_sampling").sigmas[TIMESTEP]
    x = noise * sigma / (sigma**2 + 1) ** 0.5
    return unet(
        torch.cat((x, mask.expand(batch, -1, -1, -1)), dim=1),
        torch.full((batch,), TIMESTEP),
        encoder_hidden_states=context.expand(batch, -1, -1),
        cross_attention_kwargs={"gligen": {"input": tokens.expand(batch, -1, -1)}},
    ).sample


@pytest.mark.parametrize("options", [{}, POSITIONS], ids=["paper", "positions"])
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("family", ["tiny", "sd2", "sd15"])
def test_same_noise_prediction(
    host: Host, tmp_path: Path, family: str, count: int, options: dict[str, Any]
) -> None:
    base = host.make_base(family)
    loaded = host.make_adapter(base, tmp_path, **options)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    branch = host.branch(loaded, count)
    context, noise = random_context(base), random_noise(base, batch=2)
    positive = host.conditioning(context, branch)
    got = host_prediction(base, cfg_guider(model, positive, positive), noise)
    adapter = make_adapter_for(base, **options)
    wanted = training_prediction(base, adapter, branch, context, noise)
    assert relative_error(got, wanted) < 1e-4
    stock = host_prediction(
        base, cfg_guider(base.model, *[host.conditioning(context, None)] * 2), noise
    )
    assert relative_error(stock, wanted) > 1e-2


@pytest.mark.parametrize("options", [{"mask_polarity": "outside"}, POSITIONS])
def test_odd_latent_sizes(host: Host, tmp_path: Path, options: dict[str, Any]) -> None:
    base = host.make_base("sd2")
    loaded = host.make_adapter(base, tmp_path, **options)
    model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    branch = host.branch(loaded, 2)
    context, noise = random_context(base), random_noise(base, size=(25, 37))
    positive = host.conditioning(context, branch)
    got = host_prediction(base, cfg_guider(model, positive, positive), noise)
    adapter = make_adapter_for(base, **options)
    wanted = training_prediction(base, adapter, branch, context, noise)
    assert relative_error(got, wanted) < 1e-4


@pytest.mark.parametrize("family", ["tiny", "sd2", "sd15"])
def test_base_unet(host: Host, family: str) -> None:
    base = host.make_base(family)
    context, noise = random_context(base), random_noise(base)
    conditioning = host.conditioning(context, None)
    got = host_prediction(base, cfg_guider(base.model, conditioning, conditioning), noise)
    sigma = base.model.get_model_object("model_sampling").sigmas[TIMESTEP]
    x = noise * sigma / (sigma**2 + 1) ** 0.5
    wanted = base.unet(x, torch.tensor([TIMESTEP]), encoder_hidden_states=context).sample
    assert relative_error(got, wanted) < 1e-5
