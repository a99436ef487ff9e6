"""Trained weights of the base as *differences*, so that LoRAs loaded before or after the adapter
keep acting.

An adapter file stores absolute weights. A patch that sets them would wipe a LoRA that is already
there; a difference against the unpatched base adds up with it in any order.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping

import comfy.model_patcher
import torch

from .comfy_types import Clip, Patcher, Patches

Convert = Callable[..., torch.Tensor]
_TEXT_ENCODER_ANCHOR = "transformer.text_model.final_layer_norm.weight"


def weight_differences(
    patcher: Patcher, targets: Mapping[str, torch.Tensor], owner: str, argument: str
) -> Patches:
    """Target minus *unpatched* base, for every parameter.

    Args:
        targets: absolute weights under the names that they have in the patcher's model.
        owner: name of the adapter, and `argument` of the node's input, for the error.
    """
    patches: Patches = {}
    for name, target in targets.items():
        found = unpatched_weight(patcher, name)
        got = None if found is None else tuple(found[0].shape)
        if found is None or got != tuple(target.shape):
            raise ValueError(
                f"{argument}: expected '{name}' of shape {tuple(target.shape)} for the adapter "
                f"'{owner}', got {got or 'no such weight'}. Load the base model that this "
                "adapter was trained on."
            )
        weight, convert = found
        original = convert(weight.detach().to("cpu", torch.float32), inplace=False)
        difference = target.to(torch.float32) - original
        patches[name] = ("diff", (difference.to(_storage_dtype(weight.dtype)),))
    return patches


def unpatched_weight(patcher: Patcher, name: str) -> tuple[torch.Tensor, Convert] | None:
    """A weight as the base has it, and what makes numbers of it; None if there is none.

    One at a time: quantised checkpoints have weights that cannot be asked for like the others.
    """
    try:
        weight, _, convert = comfy.model_patcher.get_key_weight(patcher.model, name)
    except AttributeError:
        return None
    if name in patcher.backup:
        weight = patcher.backup[name].weight
    if name in patcher.hook_backup:
        weight = patcher.hook_backup[name][0]
    return weight, convert or _as_it_is


def _as_it_is(weight: torch.Tensor, **_kwargs: object) -> torch.Tensor:
    return weight


def _storage_dtype(base_dtype: torch.dtype) -> torch.dtype:
    """A difference needs no more digits than the weight it is added to, and fp8 has too few."""
    if base_dtype in (torch.float32, torch.float16, torch.bfloat16):
        return base_dtype
    return torch.float16


def text_encoder_prefix(clip: Clip) -> str:
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


def without_patches(clip: Clip, patches: Patches) -> Clip:
    """The same CLIP, with its LoRAs, but without these patches."""
    stock = clip.clone()
    for name, entries in list(stock.patcher.patches.items()):
        kept = [entry for entry in entries if entry[1] is not patches.get(name)]
        if kept:
            stock.patcher.patches[name] = kept
        else:
            del stock.patcher.patches[name]
    stock.patcher.patches_uuid = uuid.uuid4()
    return stock
