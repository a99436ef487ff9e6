"""What the MODEL at hand looks like, in diffusers' words: read from the model, never assumed."""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_sampling
import comfy.utils

from .comfy_types import Model, Options, TransformerBlock, Unet

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


def require_unet(model: Model) -> None:
    """One sentence unless the MODEL is a UNet that reads texts in its transformer blocks."""
    if not transformer_block_locations(model):
        raise ValueError(
            "model: expected a UNet (Stable Diffusion 1, 2 or XL), got "
            f"{type(model.model).__name__}. Load such a checkpoint."
        )


def read_unet_geometry(model: Model) -> UnetGeometry:
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


def transformer_block_locations(model: Model) -> dict[str, Location]:
    """diffusers' name of every transformer block of a MODEL's UNet -> where ComfyUI's patches find
    it; empty for models that are no UNet."""
    config = getattr(getattr(model.model, "model_config", None), "unet_config", {})
    return {
        name.removesuffix(_QUERY_WEIGHT): _location(target.removesuffix(_QUERY_WEIGHT))
        for name, target in comfy.utils.unet_to_diffusers(config).items()
        if name.endswith(_QUERY_WEIGHT)
    }


def latent_size_of_block(extra_options: Options, num_positions: int) -> tuple[int, int]:
    """Height and width of the activations in a block with `num_positions` = h * w.

    ComfyUI tells them; where it does not, they follow from the latent's size: every level of the
    UNet halves it, rounding up.
    """
    shape = extra_options.get("activations_shape")
    if shape is not None and shape[-2] * shape[-1] == num_positions:
        return shape[-2], shape[-1]
    height, width = extra_options["original_shape"][-2:]
    while height * width > num_positions:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != num_positions:
        raise ValueError(
            f"latent: expected a size whose halves give {num_positions} positions, got "
            f"{tuple(extra_options['original_shape'][-2:])}. Turn off other nodes that change the "
            "size inside the UNet."
        )
    return height, width


def location_of_block(extra_options: Options) -> Location | None:
    """The transformer block that a patch is called from; None outside of the UNet's blocks."""
    if "block" not in extra_options:
        return None
    kind, number = extra_options["block"]
    return kind, number, extra_options.get("block_index", 0)


def transformer_block_at(unet: Unet, location: Location) -> TransformerBlock:
    """The transformer block itself, with `attn1` and `attn2`."""
    kind, number, index = location
    block = unet.middle_block if kind == "middle" else getattr(unet, f"{kind}_blocks")[number]
    (transformer,) = [part for part in block if hasattr(part, "transformer_blocks")]
    found: TransformerBlock = transformer.transformer_blocks[index]
    return found


def _read_block(unet: Unet, path: str) -> BlockGeometry:
    block = comfy.utils.get_attr(unet, path)
    return BlockGeometry(location=_location(path), query_dim=block.attn1.to_q.in_features)


def _location(path: str) -> Location:
    """`path` is for example "input_blocks.1.1.transformer_blocks.0" or
    "middle_block.1.transformer_blocks.0"."""
    parts = path.split(".")
    kind = parts[0].split("_")[0]
    return kind, 0 if kind == "middle" else int(parts[1]), int(parts[-1])


def _prediction_type(model: Model) -> str:
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.V_PREDICTION):
        return "v_prediction"
    if isinstance(sampling, comfy.model_sampling.EPS):
        return "epsilon"
    return type(sampling).__name__
