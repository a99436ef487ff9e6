"""Import of weights made with the authors' public code: unet, clip_text, mlp and proj."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch

from ..errors import CheckpointError
from .adapter import Adapter, StateDict, require_contract
from .adapter_config import AdapterBlock, AdapterConfig
from .safetensors_file import read_safetensors, require_finite

Weights = str | os.PathLike[str] | Mapping[str, torch.Tensor]
_COORDINATE_FEATURES = 8
_HEAD_DIM_SD2 = 64
_NUM_HEADS_SD15 = 8
_FAMILY_BY_WIDTH: dict[int, Literal["sd2", "sd15"]] = {1024: "sd2", 768: "sd15"}


def import_reference(
    unet: Weights,
    text_encoder: Weights,
    mlp: Weights,
    proj: Weights,
    num_subjects: int = 2,
) -> Adapter:
    """Turn the reference's four files into an adapter.

    Args:
        unet: diffusers' gated UNet with 5 input channels; only adapters, cross-attention K/V and
            conv_in are taken.
        text_encoder: the retrained CLIP text model.
        mlp: projector of the image embedding: layernorm, fc1, fc2.
        proj: grounding net: linears_image.*, null_image_feature, null_position_feature.
        num_subjects: slots of training (2 in the paper); the files do not say.

    Each is a path to a .safetensors file or to a .bin/.pt file (read with `weights_only=True`), or
    a state dict.

    Returns:
        An adapter that keeps the reference's rules: mask 1 outside the boxes, null tokens zero.
    """
    grounding = _read("proj", proj)
    projector = _read("mlp", mlp)
    unet_weights = _select_unet(_read("unet", unet))
    config = _infer_config(unet_weights, projector, grounding, num_subjects)
    adapter = Adapter(
        config=config,
        unet=unet_weights,
        text_encoder=_select_text_encoder(_read("text_encoder", text_encoder)),
        grounding=grounding,
        mlp=projector,
    )
    require_contract(config, adapter.tensors(), "reference weights")
    require_finite("reference weights", adapter.tensors())
    return adapter


def _read(argument: str, weights: Weights) -> StateDict:
    if isinstance(weights, Mapping):
        return dict(weights)
    if Path(weights).suffix == ".safetensors":
        return read_safetensors(weights)[0]
    try:
        loaded = torch.load(weights, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{argument}: expected a file of plain tensors, got {weights}, which cannot be read as "
            "one. Save it with torch.save(model.state_dict(), ...) or as .safetensors."
        ) from error
    if not isinstance(loaded, Mapping) or not all(map(torch.is_tensor, loaded.values())):
        raise CheckpointError(
            f"{argument}: expected a state dict of tensors, got {type(loaded).__name__} in "
            f"{weights}. Save it with torch.save(model.state_dict(), ...)."
        )
    return dict(loaded)


def _select_unet(state_dict: StateDict) -> StateDict:
    taken = (".fuser.", ".attn2.to_k.weight", ".attn2.to_v.weight")
    selected = {
        name: tensor
        for name, tensor in state_dict.items()
        if name.startswith("conv_in.") or any(part in name for part in taken)
    }
    if not any(".fuser." in name for name in selected):
        raise CheckpointError(
            "unet: expected adapters ('....fuser.*'), got a UNet without them. "
            "Choose the UNet that was trained with Subject-Diffusion, not its base."
        )
    channels = selected["conv_in.weight"].shape[1] if "conv_in.weight" in selected else 0
    if channels != 5:
        raise CheckpointError(
            f"unet: expected a conv_in with 5 input channels, got {channels}. "
            "Choose the UNet that was trained with the location mask."
        )
    return selected


def _select_text_encoder(state_dict: StateDict) -> StateDict:
    """Names as in CLIP's files: with `text_model.`, without the buffer of position ids."""
    prefix = "text_model."
    return {
        name if name.startswith(prefix) else prefix + name: tensor
        for name, tensor in state_dict.items()
        if not name.endswith("position_ids")
    }


def _infer_config(
    unet: StateDict, projector: StateDict, grounding: StateDict, num_subjects: int
) -> AdapterConfig:
    try:
        image_feature, position_feature = (
            grounding["null_image_feature"], grounding["null_position_feature"],
        )  # fmt: skip
        grounding_hidden, grounding_out = grounding["linears_image.fc2.weight"].shape[::-1]
        projector_hidden, projector_in = projector["fc1.weight"].shape
        projector_out = projector["fc2.weight"].shape[0]
        block_names = sorted({n.split(".fuser.")[0] for n in unet if ".fuser." in n})
        query_dims = [unet[f"{name}.fuser.linear.weight"].shape[0] for name in block_names]
        width = unet[f"{block_names[0]}.attn2.to_k.weight"].shape[1]
    except KeyError as error:
        raise CheckpointError(
            f"reference weights: expected the tensor {error}, got files without it. "
            "Pass the files in the order unet, text encoder, mlp, proj."
        ) from error
    if width not in _FAMILY_BY_WIDTH:
        raise CheckpointError(
            f"unet: expected a cross-attention width of 1024 (SD2) or 768 (SD1.5), got {width}. "
            "Only these two bases can be imported."
        )
    return AdapterConfig(
        base_family=_FAMILY_BY_WIDTH[width],
        latent_channels=4,
        cross_attention_dim=width,
        patch_dim=image_feature.shape[-1],
        image_embed_dim=projector_in,
        num_patches=image_feature.shape[-2],
        num_subjects=num_subjects,
        grounding_hidden_dim=grounding_hidden,
        grounding_out_dim=grounding_out,
        projector_hidden_dim=projector_hidden,
        projector_out_dim=projector_out,
        num_freqs=position_feature.shape[-1] // _COORDINATE_FEATURES,
        adapter_blocks=tuple(
            _infer_block(name, query_dim, _FAMILY_BY_WIDTH[width])
            for name, query_dim in zip(block_names, query_dims, strict=True)
        ),
        mask_polarity="outside",
        null_rule="zeros",
        provenance={"imported_from": "reference"},
    )


def _infer_block(name: str, query_dim: int, base_family: str) -> AdapterBlock:
    """The heads of the base's own attention: 64 wide in SD2, 8 of them in SD1.5."""
    num_heads = query_dim // _HEAD_DIM_SD2 if base_family == "sd2" else _NUM_HEADS_SD15
    return AdapterBlock(
        name=name, query_dim=query_dim, num_heads=num_heads, head_dim=query_dim // num_heads
    )
