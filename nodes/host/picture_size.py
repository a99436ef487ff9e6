"""The size of pictures that a MODEL was made for, against that of the one to be sampled."""

from __future__ import annotations

import math
from typing import Any

import comfy.model_base
import comfy.patcher_extension
import comfy.supported_models
import torch

from .comfy_types import Executor, Guider, Model
from .node_warnings import show_warnings

KEY = "subject_diffusion_picture_size"
PIXELS_PER_CELL = 8  # of all models whose size is known here
# How many times the side (of a square of the same area) may be. A picture to begin with holds
# things together: upscaling to twice the side is common.
LARGEST, LARGEST_WITH_PICTURE, SMALLEST = 1.5, 2.0, 1 / 1.5


def attach_size_check(model: Model) -> None:
    """Let a MODEL say so at the start of a run for whose size it was not made; once, whoever
    asks."""
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    if not model.get_wrappers(kind, KEY):
        model.add_wrapper_with_key(kind, KEY, _outer_sample)


def without_size_check(model: Model) -> Model:
    """A clone for runs that draw no picture, and so say nothing of its size."""
    clone = model.clone()
    clone.remove_wrappers_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, KEY)
    return clone


def native_side(base_model: Any) -> int | None:
    """Side in pixels of the squares that ComfyUI's BaseModel was trained on; None if that is not
    known."""
    config = getattr(base_model, "model_config", None)
    own: int | None = getattr(config, "picture_side", None)
    if own is not None:
        return own
    kinds = comfy.supported_models
    if isinstance(config, kinds.SDXL | kinds.SDXLRefiner):
        return 1024
    if isinstance(config, kinds.SD20):
        is_v = base_model.model_type == comfy.model_base.ModelType.V_PREDICTION
        return 768 if is_v else 512
    return 512 if isinstance(config, kinds.SD15) else None


def size_warning(
    base_model: Any, latent_image: torch.Tensor, remedy: str = "", is_small_fine: bool = False
) -> str | None:
    """What to say of a latent (B, C, h, w), which is zero where no picture is given.

    Args:
        remedy: what to do about it, where that is not the nodes' width and height.
    """
    side = native_side(base_model)
    if side is None:
        return None
    height, width = (PIXELS_PER_CELL * cells for cells in latent_image.shape[-2:])
    times = math.sqrt(height * width) / side
    has_picture = bool(latent_image.any())
    if times > (LARGEST_WITH_PICTURE if has_picture else LARGEST):
        return (
            f"The picture of {width}x{height} has {times**2:.1f} times the pixels of the "
            f"{side}x{side} that this model was made for: it takes at least so many times as long, "
            f"and will hardly hang together. {remedy or _remedy(side, has_picture)}"
        )
    if times < SMALLEST and not is_small_fine:
        return (
            f"The picture of {width}x{height} is small for this model, which was made for "
            f"{side}x{side}: little will be recognised. {remedy or _remedy(side, has_picture)}"
        )
    return None


def warn_of_size(guider: Guider, latent_image: torch.Tensor) -> None:
    """For samplers, which see the MODEL only when they run; nothing where it says so itself."""
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    model = guider.model_patcher
    warning = size_warning(model.model, latent_image)
    if warning is not None and not model.get_wrappers(kind, KEY):
        show_warnings([warning])


def _remedy(side: int, has_picture: bool) -> str:
    """What to do.

    >>> _remedy(128, False)
    'Give Layout and the latent about 128x128.'
    """
    if has_picture:
        return f"Scale the picture to about {side}x{side} before VAE Encode (Upscale Image)."
    return f"Give Layout and the latent about {side}x{side}."


def _outer_sample(
    executor: Executor, noise: torch.Tensor, latent_image: torch.Tensor, *args: Any, **kwargs: Any
) -> torch.Tensor:
    guider: Guider = executor.class_obj
    warning = size_warning(guider.model_patcher.model, latent_image)
    if warning is not None:
        show_warnings([warning])
    return executor(noise, latent_image, *args, **kwargs)
