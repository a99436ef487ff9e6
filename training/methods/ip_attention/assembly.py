"""From the small base and a recipe to the trainable model, and from it to its makers' file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from subject_diffusion_core.files.ip_attention_file import (
    DUMMY_TOKENS,
    GROUNDED,
    GROUNDED_PAIRS,
    HEAD_DIM,
    IMAGE,
    PAIRS,
)
from subject_diffusion_core.files.safetensors_file import require_finite, write_safetensors
from subject_diffusion_core.ip_attention import GroundingResampler, PerceiverResampler

from ...bases.base_model import BaseModel
from ...bases.vision import VisionShape, load_vision
from ...recipes.configuration import TrainingRecipe
from .model import ImageAttentionModel

DEPTH, QUERIES = 4, 16  # of every resampler that was published
NUM_DUMMIES = 4


def build_model(
    base: BaseModel, recipe: TrainingRecipe, vision: VisionShape, init: Path | None = None
) -> ImageAttentionModel:
    """The model of a run at its first step: the base's weights, a resampler by the recipe's seed,
    keys and values as the base has them for its texts."""
    if init is not None:
        raise ValueError(
            f"--init: expected none with {recipe.method}, got {init}. Leave it out: its training "
            "begins with the base alone."
        )
    channels = base.latent_channels
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        unet = UNet2DConditionModel(
            **base.unet_arguments, in_channels=channels, out_channels=channels
        )
        text_encoder = CLIPTextModel(base.text_config)
        unet.load_state_dict(base.unet)
        text_encoder.load_state_dict(base.text)
        resampler = build_resampler(base, recipe, vision)
        absent = None if recipe.method == "ms_diffusion" else absent_states(base, recipe)
        return ImageAttentionModel(unet, text_encoder, resampler, absent)


def build_resampler(
    base: BaseModel, recipe: TrainingRecipe, vision: VisionShape
) -> PerceiverResampler | GroundingResampler:
    """With the makers' depth and number of tokens, as wide as the recipe says."""
    dim, context_dim = recipe.grounding_hidden_dim, base.unet_arguments["cross_attention_dim"]
    sizes = (dim, DEPTH, HEAD_DIM, dim // HEAD_DIM, QUERIES, vision.patch_dim, context_dim)
    if recipe.method == "ms_diffusion":
        return GroundingResampler(*sizes, label_dim=base.text_config.hidden_size)
    return PerceiverResampler(*sizes)


def absent_states(base: BaseModel, recipe: TrainingRecipe) -> Tensor:
    """(L, E) of a picture whose pixels are 0 *after* the encoder's normalisation."""
    network: Any = load_vision(None, recipe, base)
    size = network.shape.reference_size
    patches = network.network(torch.zeros(1, 3, size, size)).patch_embeds[0]
    return torch.cat((patches.mean(dim=0, keepdim=True), patches))


def choose_trainable(model: ImageAttentionModel, _recipe: TrainingRecipe) -> None:
    """The resampler and the pairs; the base is frozen."""
    model.requires_grad_(False)
    for part in (model.image_proj, model.pairs):
        part.requires_grad_(True)


def makers_tensors(model: ImageAttentionModel) -> dict[str, Tensor]:
    """Everything that training added to the base, by the makers' names."""
    prefix = GROUNDED_PAIRS if model.kind == GROUNDED else PAIRS
    parts: tuple[tuple[str, nn.Module], ...] = ((IMAGE, model.image_proj), (prefix, model.pairs))
    tensors = {before + name: tensor
               for before, part in parts for name, tensor in part.state_dict().items()}  # fmt: skip
    if model.kind == GROUNDED:  # seen in no subject's box alone, where all image tokens count 0
        width = model.unet.config["cross_attention_dim"]
        tensors[DUMMY_TOKENS] = torch.zeros(1, NUM_DUMMIES, width)
    return {name: tensor.detach().half() for name, tensor in tensors.items()}


def write_file(
    path: Path,
    model: ImageAttentionModel,
    provenance: Mapping[str, Any],
    int8: bool = False,
    **_: object,
) -> None:
    """The file that *Adapter Loader* recognises by its keys; fp16."""
    if int8:
        raise ValueError(
            "--int8: expected it for Subject-Diffusion's adapters alone, got it for a file in its "
            "makers' format, which knows no int8. Leave it out."
        )
    tensors = makers_tensors(model)
    require_finite(str(path), tensors)
    write_safetensors(path, tensors, {"training": json.dumps(provenance)})
