"""Trained weights of the base as *differences*, so that LoRAs loaded before or after the adapter
keep acting.

An adapter file stores absolute weights. A patch that sets them would wipe a LoRA that is already
there; a difference against the unpatched base adds up with it in any order.
"""

from __future__ import annotations

from typing import Any

import torch

from ..adapters.adapter_types import LoadedAdapter
from .unet_geometry import UnetGeometry

Patches = dict[str, tuple[str, tuple[torch.Tensor]]]
CONV_IN_WEIGHT = "conv_in.weight"
_FUSER = ".fuser."
_TEXT_ENCODER_ANCHOR = "transformer.text_model.final_layer_norm.weight"


def unet_weight_diffs(model: Any, geometry: UnetGeometry, loaded: LoadedAdapter) -> Patches:
    """Differences for cross-attention K/V and conv_in (without the mask channel)."""
    targets = {}
    for name, weight in loaded.adapter.unet.items():
        if _FUSER in name:
            continue
        if name == CONV_IN_WEIGHT:
            weight = weight[:, : loaded.config.latent_channels]
        targets[geometry.parameters[name]] = weight
    return _differences(model, targets, loaded, "model")


def text_encoder_diffs(clip: Any, loaded: LoadedAdapter) -> Patches:
    """Differences for the text encoder; empty if the adapter did not train it."""
    prefix = text_encoder_prefix(clip)
    targets = {prefix + name: weight for name, weight in loaded.adapter.text_encoder.items()}
    return _differences(clip.patcher, targets, loaded, "clip")


def text_encoder_prefix(clip: Any) -> str:
    """Prefix of the CLIP text model's parameters, for example "clip_h.transformer."."""
    found = [
        name.removesuffix(_TEXT_ENCODER_ANCHOR.removeprefix("transformer."))
        for name in clip.patcher.model_state_dict()
        if name.endswith(_TEXT_ENCODER_ANCHOR)
    ]
    if len(found) != 1:
        raise ValueError(
            f"clip: expected one CLIP text encoder (Stable Diffusion 1 or 2), got {len(found)}. "
            "Connect the CLIP of the base model that the adapter was trained on."
        )
    return found[0]


def _differences(
    patcher: Any, targets: dict[str, torch.Tensor], loaded: LoadedAdapter, argument: str
) -> Patches:
    """Target minus *unpatched* base, for every parameter."""
    base = patcher.get_key_patches() if targets else {}
    patches: Patches = {}
    for name, target in targets.items():
        found = base[name][0] if name in base else None
        got = None if found is None else tuple(found[0].shape)
        if found is None or got != tuple(target.shape):
            raise ValueError(
                f"{argument}: expected '{name}' of shape {tuple(target.shape)} for the adapter "
                f"'{loaded.name}', got {got or 'no such weight'}. Load the base model that this "
                "adapter was trained on."
            )
        weight, convert = found
        original = convert(weight.detach().to("cpu", torch.float32), inplace=False)
        difference = target.to(torch.float32) - original
        patches[name] = ("diff", (difference.to(_storage_dtype(weight.dtype)),))
    return patches


def _storage_dtype(base_dtype: torch.dtype) -> torch.dtype:
    """A difference needs no more digits than the weight it is added to, and fp8 has too few."""
    if base_dtype in (torch.float32, torch.float16, torch.bfloat16):
        return base_dtype
    return torch.float16
