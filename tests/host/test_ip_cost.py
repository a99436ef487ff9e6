"""What image tokens cost at SDXL's full geometry, counted without weights: one UNet call of a
picture of 1024 x 1024 with its negative branch, four subjects."""

from __future__ import annotations

from typing import Any

import comfy.ldm.modules.attention
import comfy.model_detection
import comfy.model_patcher
import comfy.supported_models
import pytest
import torch
from diffusers import UNet2DConditionModel
from host_models import Host
from test_ip_files import META, module_of
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.full_size.full_size_files import UNETS
from subject_diffusion_core.files.ip_attention_file import BASE, GROUNDED, PLUS
from subject_diffusion_core.ip_attention import (
    GroundingResampler,
    ImageProjection,
    PerceiverResampler,
)

PROJECTIONS = {
    BASE: lambda: ImageProjection(1280, 2048),
    PLUS: lambda: PerceiverResampler(1280, 4, 64, 20, 16, 1280, 2048),
    GROUNDED: lambda: GroundingResampler(1280, 4, 64, 20, 16, 1664, 2048, 768),
}
BOXES = ((0.0, 0.0, 0.5, 0.5), (0.5, 0.0, 1.0, 0.5), (0.0, 0.5, 0.6, 1.0), (0.4, 0.5, 1.0, 1.0))
FEW, MOST = 1.02, 1.09
# of ComfyUI's functions the one whose products are counted
COUNTED = comfy.ldm.modules.attention.attention_basic


@pytest.fixture(scope="module")
def sdxl() -> Any:
    with META:
        unet = UNet2DConditionModel(**UNETS["sdxl"])
    config = comfy.model_detection.unet_config_from_diffusers_unet(unet.state_dict())
    model_config = comfy.supported_models.SDXL(config)
    model_config.set_inference_dtype(torch.float32, None)
    model = model_config.get_model({}, device=META)
    return comfy.model_patcher.ModelPatcher(model, load_device=META, offload_device=META)


def make_adapter(host: Host, sdxl: Any, kind: str) -> Any:
    """A file of full size without memory, as the family's adapter."""
    geometry = host.unet_geometry.read_unet_geometry(sdxl)
    widths = [
        geometry.blocks[name].query_dim
        for name in module_of(host, "family").ordered_blocks(geometry)
    ]
    with META:
        image = PROJECTIONS[kind]().state_dict()
        pairs = tuple((torch.empty(w, 2048), torch.empty(w, 2048)) for w in widths)
    file = host.core("files.ip_attention_file").IpAttentionFile(
        kind=kind,
        image=image,
        pairs=pairs,
        embed_dim=1664 if kind == GROUNDED else 1280,
        context_dim=2048,
        num_tokens=4 if kind == BASE else 16,
    )
    file.__dict__["fingerprint"] = kind  # of numbers that are not there
    return module_of(host, "family").IpAttentionAdapter(f"{kind}.safetensors", file)


def make_call(host: Host, kind: str) -> Any:
    """Positive and negative branch; an IP-Adapter's negative has tokens of no picture."""
    branches = module_of(host, "branches")
    run = host.sampling_run.SamplingRun((128, 128))
    shape = {BASE: (1, 1280), PLUS: (1, 257, 1280), GROUNDED: (1, 257, 1664)}[kind]
    name = "image_embeds" if kind == BASE else "penultimate_embeds"

    def branch(count: int) -> Any:
        subjects = tuple(
            branches.ShownSubject(
                embeds={name: torch.empty(shape, device=META)},
                box_xyxy=box,
                region=None,
                strength=1.0,
                label_embed=torch.empty(768, device=META),
            )
            for box in BOXES[:count]
        )
        value = branches.BranchImages(fingerprint=kind, subjects=subjects)
        return host.run_attachment.BranchCond(value=value, run=run).process_cond(1)

    positive, negative = branch(4), branch(0 if kind == GROUNDED else 4)
    return positive.concat([negative])


def count(model: Any, call: Any = None) -> int:
    """Multiplications and additions of one call."""
    options = dict(model.model_options["transformer_options"])
    options |= {"wrappers": model.wrappers, "sigmas": torch.ones(2)}
    extra = {} if call is None else {"subject_diffusion": call}
    x, context = torch.empty(2, 4, 128, 128, device=META), torch.empty(2, 77, 2048, device=META)
    unet, y = model.model.diffusion_model, torch.empty(2, 2816, device=META)
    with FlopCounterMode(display=False) as counter:
        times = torch.ones(2, device=META)
        unet(x, times, context, y=y, transformer_options=options, **extra)
    return counter.get_total_flops()


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: Any) -> torch.Tensor:
    """Another pack's cross-attention."""
    return COUNTED(q, k, v, options["n_heads"])


@pytest.fixture(scope="module")
def plain(sdxl: Any) -> int:
    """The count without subjects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.ldm.modules.attention, "optimized_attention", COUNTED)
        return count(sdxl)


@pytest.mark.parametrize("kind", PROJECTIONS)
def test_four_subjects(
    host: Host, sdxl: Any, plain: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy.ldm.modules.attention, "optimized_attention", COUNTED)
    monkeypatch.setattr(module_of(host, "unet_term"), "optimized_attention", COUNTED)
    adapter = make_adapter(host, sdxl, kind)
    model, _ = host.apply_node.apply_adapter(sdxl, host.make_base().clip, adapter)
    call = make_call(host, kind)
    first = count(model, call)
    ratio = count(model, call) / plain
    assert first >= ratio * plain  # keys and values are made once a run
    for block in host.unet_geometry.read_unet_geometry(sdxl).blocks.values():
        model.set_model_attn2_replace(attend, *block.location)
    beside = count(model, call) / plain
    print(f"{kind}: {plain / 1e12:.3f} TFLOP, x {ratio:.4f}, beside a replacement x {beside:.4f}")
    assert 1.0 < ratio < FEW and ratio < beside < MOST
