"""The methods by name, and what the loop asks of each: a model, what of it is trained, a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..bases.base_model import BaseModel
from ..bases.vision import VisionShape
from ..recipes.configuration import TrainingRecipe
from .ip_attention import assembly as ip_attention
from .subject_diffusion import assembly as subject_diffusion


@dataclass(frozen=True, kw_only=True)
class Method:
    """How one method is trained.

    Attributes:
        build_model: the whole model at a run's first step, in fp32. Its ``unet`` takes the loop's
            attention; called with noisy latents, timesteps and a ``Conditioning`` it predicts.
        choose_trainable: marks what the recipe trains, and freezes everything else.
        write_file: the adapter's file for the nodes.
    """

    build_model: Callable[[BaseModel, TrainingRecipe, VisionShape, Path | None], Any]
    choose_trainable: Callable[[Any, TrainingRecipe], None]
    write_file: Callable[..., None]


SUBJECT_DIFFUSION = Method(
    build_model=subject_diffusion.build_model,
    choose_trainable=subject_diffusion.choose_trainable,
    write_file=subject_diffusion.write_file,
)
IP_ATTENTION = Method(
    build_model=ip_attention.build_model,
    choose_trainable=ip_attention.choose_trainable,
    write_file=ip_attention.write_file,
)
METHODS: Mapping[str, Method] = {
    "subject_diffusion": SUBJECT_DIFFUSION,
    "ip_adapter": IP_ATTENTION,
    "ms_diffusion": IP_ATTENTION,
}


def method_of(recipe: TrainingRecipe) -> Method:
    """The recipe's method."""
    return METHODS[recipe.method]


def assemble(
    recipe: TrainingRecipe, base: BaseModel, vision: VisionShape, init: Path | None = None
) -> Any:
    """The recipe's model with its frozen and trained parts, in their precisions."""
    method = method_of(recipe)
    model = method.build_model(base, recipe, vision, init)
    method.choose_trainable(model, recipe)
    if recipe.precision == "bfloat16":
        lower_frozen_precision(model, torch.bfloat16)
    if recipe.gradient_checkpointing:
        checkpoint_activations(model)
    return model


def lower_frozen_precision(model: nn.Module, dtype: torch.dtype) -> None:
    """Frozen matrices and kernels to ``dtype``; norms and biases stay float32."""
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.ndim > 1:
            parameter.data = parameter.data.to(dtype)


def checkpoint_activations(model: Any) -> None:
    """Keep few activations and compute the others again in the backward pass."""
    model.unet.enable_gradient_checkpointing()
    text = model.text_encoder
    enable = getattr(text, "activation_checkpointing_enable", text.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
