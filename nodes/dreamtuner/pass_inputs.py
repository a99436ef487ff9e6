# Shapes: C latent channels, h, w size of a reference's latent.
"""What the UNet takes for its pass over a reference: as ComfyUI makes it for a sampling."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

import comfy.sampler_helpers
import comfy.samplers
import torch

from ..host.comfy_types import Conditioning, Sampling
from .references import Reference


class PassInputs(NamedTuple):
    """A reference as the model takes it: latent (1, C, h, w), further inputs of its calls, and the
    name that its calls go by."""

    latent: torch.Tensor
    conds: dict[str, Any]
    uuid: uuid.UUID


def caption_at(caption: Conditioning, sampling: Sampling, sigma: float) -> int:
    """Which entry of a caption holds at a noise level: a CLIP with a schedule of its own, as hooks
    of ComfyUI make it, gives several, one after the other."""
    for index, (_, values) in enumerate(caption):
        end = sampling.percent_to_sigma(values.get("clip_end_percent", 1.0))
        if sigma >= end:
            return index
    return len(caption) - 1


def make_pass_inputs(
    reference: Reference, entry_index: int, model: Any, like: torch.Tensor
) -> PassInputs:
    """What ComfyUI makes of a conditioning for the model, for a picture of the reference's size."""
    latent = model.process_latent_in(reference.latent).to(like)
    entry = comfy.sampler_helpers.convert_cond(reference.caption)[entry_index]
    height, width = (8 * side for side in latent.shape[-2:])
    entry |= {"width": width, "height": height, "concat_latent_image": reference.latent}
    (encoded,) = comfy.samplers.encode_model_conds(
        model.extra_conds,
        [entry],
        torch.zeros_like(latent),
        latent.device,
        "positive",
        latent_image=latent,
        denoise_mask=torch.zeros_like(latent[:, :1]),  # inpainting models: nothing to fill in
        seed=0,
        latent_shapes=[latent.shape],
    )
    conds = {
        name: cond.process_cond(batch_size=1, area=None).concat([])
        for name, cond in encoded["model_conds"].items()
    }
    return PassInputs(latent=latent, conds=conds, uuid=entry["uuid"])
