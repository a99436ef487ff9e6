"""What the MODEL at hand looks like, in diffusers' words: read from the model, never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
import comfy.utils

from ...subject_diffusion_core.checkpoint import AdapterConfig

_QUERY_WEIGHT = ".attn1.to_q.weight"
Location = tuple[str, int, int]


@dataclass(frozen=True, kw_only=True)
class BlockGeometry:
    """One transformer block of the UNet.

    Attributes:
        location: where ComfyUI's patches find it: ("input" | "middle" | "output", block number,
            index in the block).
    """

    location: Location
    query_dim: int


@dataclass(frozen=True, kw_only=True)
class UnetGeometry:
    """A UNet of the Stable Diffusion 1/2 family.

    Attributes:
        in_channels: inputs of conv_in; more than the latent's channels for inpainting models.
        parameters: diffusers' parameter name -> name inside ComfyUI's MODEL.
        blocks: diffusers' block name -> geometry.
    """

    in_channels: int
    base_channels: int
    cross_attention_dim: int
    prediction_type: str
    parameters: dict[str, str]
    blocks: dict[str, BlockGeometry]


def read_unet_geometry(model: Any) -> UnetGeometry:
    """Read the geometry of a MODEL (a ModelPatcher)."""
    config = getattr(getattr(model.model, "model_config", None), "unet_config", {})
    names = comfy.utils.unet_to_diffusers(config)
    if not names or config.get("context_dim") is None:
        kind = type(model.model).__name__
        raise ValueError(
            f"model: expected a UNet of the Stable Diffusion 1 or 2 family, got {kind}. Load the "
            "base model that the adapter was trained on."
        )
    unet = model.get_model_object("diffusion_model")
    blocks = {
        name.removesuffix(_QUERY_WEIGHT): _read_block(unet, target.removesuffix(_QUERY_WEIGHT))
        for name, target in names.items()
        if name.endswith(_QUERY_WEIGHT)
    }
    return UnetGeometry(
        in_channels=config["in_channels"],
        base_channels=config["model_channels"],
        cross_attention_dim=config["context_dim"],
        prediction_type=_prediction_type(model),
        parameters={name: f"diffusion_model.{target}" for name, target in names.items()},
        blocks=blocks,
    )


def require_matching_base(geometry: UnetGeometry, config: AdapterConfig, adapter_name: str) -> None:
    """One clear sentence unless the MODEL is a base that the adapter fits."""
    checks = [
        ("input channels", config.latent_channels, geometry.in_channels),
        ("text width", config.cross_attention_dim, geometry.cross_attention_dim),
        ("prediction", config.prediction_type, geometry.prediction_type),
    ]
    for block in config.adapter_blocks:
        found = geometry.blocks.get(block.name)
        width = None if found is None else found.query_dim
        checks.append((f"width of {block.name}", block.query_dim, width))
    for what, wanted, got in checks:
        if wanted != got:
            raise ValueError(
                f"model: expected a {config.base_family} base with {what} {_show(wanted)} for the "
                f"adapter '{adapter_name}', got {_show(got)}. Load the base model that this "
                "adapter was trained on."
            )


def _read_block(unet: Any, path: str) -> BlockGeometry:
    """`path` is for example "input_blocks.1.1.transformer_blocks.0" or
    "middle_block.1.transformer_blocks.0"."""
    parts = path.split(".")
    kind = parts[0].split("_")[0]
    number = 0 if kind == "middle" else int(parts[1])
    block = comfy.utils.get_attr(unet, path)
    return BlockGeometry(
        location=(kind, number, int(parts[-1])),
        query_dim=block.attn1.to_q.in_features,
    )


def _prediction_type(model: Any) -> str:
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION):
        return "v_prediction"
    if isinstance(sampling, comfy.model_sampling.EPS):
        return "epsilon"
    return type(sampling).__name__


def _show(value: Any) -> str:
    if value is None:
        return "no such block"
    return str(value)
