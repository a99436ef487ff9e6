"""ComfyUI's guidance of two predictions, for guiders that have more of them."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import torch

from .comfy_types import Entry, Options

Entries = list[Entry]


def plain_guidance(
    inner_model: Any,
    pred_cond: torch.Tensor,
    pred_uncond: torch.Tensor,
    scale: float,
    *,
    x: torch.Tensor,
    timestep: torch.Tensor,
    options: Options,
    cond: Entries | None,
    uncond: Entries | None,
) -> torch.Tensor:
    """What ComfyUI's `sampling_function` does with two predictions, other nodes' functions before
    and after the guidance included.

    Args:
        inner_model: of the guider.
        pred_cond, pred_uncond: (B, C, h, w) of the branches `cond` and `uncond`; zeros for None.
    """
    out = [pred_cond, pred_uncond]
    for function in options.get("sampler_pre_cfg_function", []):
        out = function(
            {
                "conds": [cond, uncond],
                "conds_out": out,
                "cond_scale": scale,
                "timestep": timestep,
                "input": x,
                "sigma": timestep,
                "model": inner_model,
                "model_options": options,
            }
        )
    guided: torch.Tensor = comfy.samplers.cfg_function(
        inner_model,
        *out,
        scale,
        x,
        timestep,
        model_options=options,
        cond=cond,
        uncond=uncond,
    )
    return guided
