"""From a base and a recipe to the trainable model, and from the trained model to an adapter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel

from subject_diffusion_core import checkpoint
from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.files.adapter import Adapter
from subject_diffusion_core.files.adapter_config import AdapterBlock, AdapterConfig
from subject_diffusion_core.gated_attention import GatedSelfAttention

from ...bases.base_model import BaseModel
from ...bases.vision import VisionShape
from ...networks.low_rank import add_low_rank, is_low_rank, merged
from ...networks.text import token_embedding
from ...recipes.configuration import TrainingRecipe
from .local_start import start_locally
from .model import AdapterShape, SubjectDiffusionModel, build_unet

TOKEN_TABLE = "text_model.embeddings.token_embedding.weight"
_NOT_IN_BASE = (".fuser.", "position_net.")


def with_text_prefix(name: str) -> str:
    """transformers' parameter name with the ``text_model.`` that newer versions leave out."""
    return name if name.startswith("text_model.") else f"text_model.{name}"


def adapter_blocks(model: SubjectDiffusionModel) -> tuple[AdapterBlock, ...]:
    """Every transformer block with an adapter, in forward order."""
    order = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}
    names = [name for name, module in model.unet.named_modules() if hasattr(module, "fuser")]
    names.sort(key=lambda name: order[name.split(".")[0]])
    modules = dict(model.unet.named_modules())
    return tuple(
        AdapterBlock(
            name=name,
            query_dim=modules[name].fuser.query_dim,
            num_heads=modules[name].fuser.attn.num_heads,
            head_dim=modules[name].fuser.attn.head_dim,
        )
        for name in names
    )


def is_adapter_tensor(name: str) -> bool:
    """Whether a UNet parameter belongs into the adapter's file."""
    cross_attention = name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    return ".fuser." in name or cross_attention or name.startswith("conv_in.")


def closed_gates(unet: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The UNet's part with all gates at 0: how a file says "without the adapter layer"."""
    return {
        name: torch.zeros_like(tensor) if ".fuser.alpha_" in name else tensor
        for name, tensor in unet.items()
    }


def constant_projector(mlp: Mapping[str, Tensor], embedding: Tensor) -> dict[str, Tensor]:
    """A projector that gives ``embedding`` whatever the picture: how a file says "without CLS".

    The last layer's weight is zero and its bias the placeholder's own embedding, so a host that
    replaces the placeholder puts back what stood there.
    """
    constant = {name: tensor.clone() for name, tensor in mlp.items()}
    constant["fc2.weight"] = torch.zeros_like(constant["fc2.weight"])
    constant["fc2.bias"] = embedding.to(constant["fc2.bias"])
    return constant


def adapter_shape(
    recipe: TrainingRecipe, vision: VisionShape, init: Adapter | None = None
) -> AdapterShape:
    """Sizes and switches of the Subject-Diffusion modules; heads as ``init`` has them, if given."""
    blocks = init.config.adapter_blocks if init else ()
    return AdapterShape.from_options(
        recipe,
        **asdict(vision),
        adapter=recipe.adapter,
        image_cls=recipe.image_cls,
        initial_alpha_attn=recipe.initial_alpha_attn,
        initial_alpha_dense=recipe.initial_alpha_dense,
        heads=recipe.heads()
        | {block.query_dim: (block.num_heads, block.head_dim) for block in blocks},
    )


def build_model(
    base: BaseModel, recipe: TrainingRecipe, vision: VisionShape, init: Path | None = None
) -> SubjectDiffusionModel:
    """The model of a run at its first step: the base's weights, new parts by the recipe's seed, or
    everything that the adapter file ``init`` holds."""
    adapter = checkpoint.load(init) if init else None
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        unet = build_unet(base.unet_arguments, base.latent_channels)
        text_encoder = CLIPTextModel(base.text_config)
        shape = adapter_shape(recipe, vision, adapter)
        model = SubjectDiffusionModel(unet, text_encoder, shape)
        if not base.untrained:
            load_base_weights(model, base)
        if recipe.local_start and adapter is None:
            start_adapters_locally(model)
        if adapter is not None:
            load_adapter(model, adapter, str(init))
        if recipe.text_encoder == "lora":
            add_low_rank(model.text_encoder, recipe.text_lora_rank)
    return model


def start_adapters_locally(model: SubjectDiffusionModel) -> None:
    """Let every new adapter begin by looking at its own place."""
    unet, shape = model.unet, model.shape
    cells = {
        width: 2**level / unet.config["sample_size"]
        for level, width in enumerate(unet.config["block_out_channels"])
    }
    for module in unet.modules():
        if isinstance(module, GatedSelfAttention):
            start_locally(module, cells[module.query_dim], shape.num_freqs, shape.temperature)


def load_base_weights(model: SubjectDiffusionModel, base: BaseModel) -> None:
    """Copy the base's weights; the mask's kernel, the adapters and our nets keep their own."""
    unet = dict(base.unet)
    kernel = model.unet.conv_in.weight.detach().clone()
    own = {**model.unet.state_dict(), "conv_in.weight": kernel[:, : base.latent_channels]}
    _require_sizes("unet", own, unet)
    _require_sizes("text encoder", model.text_encoder.state_dict(), base.text)
    kernel[:, : base.latent_channels] = unet["conv_in.weight"]
    unet["conv_in.weight"] = kernel
    for part, module, state in (
        ("unet", model.unet, unet), ("text encoder", model.text_encoder, base.text)
    ):  # fmt: skip
        missing, unexpected = module.load_state_dict(state, strict=False)
        missing = [name for name in missing if not any(part in name for part in _NOT_IN_BASE)]
        if missing or unexpected:
            raise CheckpointError(
                f"--base: expected the weights of its own {part}, got {len(missing)} missing "
                f"({', '.join(missing[:2])}) and {len(unexpected)} unknown "
                f"({', '.join(unexpected[:2])}). Choose another base."
            )


def _require_sizes(part: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if name in own and own[name].shape != tensor.shape:
            raise CheckpointError(
                f"--base: expected the {part} of its family's size, {tuple(own[name].shape)} in "
                f"{name}, got {tuple(tensor.shape)}. Choose another base."
            )


def choose_trainable(model: SubjectDiffusionModel, recipe: TrainingRecipe) -> None:
    """Mark what the recipe trains; everything else is frozen."""
    model.requires_grad_(False)
    model.grounding.requires_grad_(recipe.adapter)
    model.mlp.requires_grad_(recipe.image_cls)
    for name, parameter in model.unet.named_parameters():
        if name.startswith("conv_in."):
            parameter.requires_grad_(recipe.conv_in)
        elif ".fuser." in name:
            parameter.requires_grad_(recipe.adapter)
        elif is_adapter_tensor(name):
            parameter.requires_grad_(recipe.cross_attention_kv)
        elif not name.startswith("position_net."):
            parameter.requires_grad_(recipe.train_base)
    for name, parameter in model.text_encoder.named_parameters():
        if recipe.text_encoder == "full":
            table = "token_embedding" in name
            parameter.requires_grad_(recipe.token_table or not table)
        elif recipe.text_encoder == "lora":
            parameter.requires_grad_(is_low_rank(name))


def trained_parts(recipe: TrainingRecipe) -> tuple[str, ...]:
    """What differs from the base, in the adapter file's words."""
    parts = ["adapters", "grounding", "mlp"]
    if recipe.text_encoder != "frozen":
        parts.append("text_encoder")
    if recipe.conv_in:
        parts.append("conv_in")
    if recipe.cross_attention_kv:
        parts.append("cross_attention_kv")
    return tuple(parts)


def adapter_config(
    model: SubjectDiffusionModel,
    base: BaseModel,
    recipe: TrainingRecipe,
    vision: VisionShape,
    provenance: Mapping[str, Any],
) -> AdapterConfig:
    """The configuration that the adapter's file carries."""
    width = base.unet_arguments["cross_attention_dim"]
    return AdapterConfig.from_options(
        recipe,
        **asdict(vision),
        base_family=base.family,
        latent_channels=base.latent_channels,
        cross_attention_dim=width,
        grounding_out_dim=width,
        projector_out_dim=base.text_config.hidden_size,
        adapter_blocks=adapter_blocks(model),
        prediction_type=base.prediction_type,
        trained_parts=trained_parts(recipe),
        provenance=dict(provenance),
    )


def adapter_from_model(
    model: SubjectDiffusionModel, config: AdapterConfig, recipe: TrainingRecipe
) -> Adapter:
    """Everything that training added to the base, as fp16 tensors."""
    state = merged({name: tensor.detach() for name, tensor in model.state_dict().items()})
    kinds = {"conv_in": "conv_in.", "cross_attention_kv": ".attn2."}
    stored = (".fuser.", *(kinds[part] for part in config.trained_parts if part in kinds))
    unet = {
        k: v for k, v in _part(state, "unet.").items()
        if is_adapter_tensor(k) and any(kind in k for kind in stored)
    }  # fmt: skip
    text: dict[str, Tensor] = {}
    if "text_encoder" in config.trained_parts:
        text = {with_text_prefix(k): v for k, v in _part(state, "text_encoder.").items()}
        if recipe.text_encoder != "full" or not recipe.token_table:
            text.pop(TOKEN_TABLE)
    if not recipe.adapter:
        unet = closed_gates(unet)
    mlp = dict(model.mlp.state_dict())
    if not recipe.image_cls:
        mlp = constant_projector(mlp, placeholder_embedding(model, recipe))
    parts = {
        "unet": unet, "text_encoder": text, "grounding": model.grounding.state_dict(), "mlp": mlp,
    }  # fmt: skip
    halved = {
        part: {k: v.detach().cpu().half() for k, v in tensors.items()}
        for part, tensors in parts.items()
    }
    return Adapter(config=config, **halved)


def write_file(
    path: Path,
    model: SubjectDiffusionModel,
    provenance: Mapping[str, Any],
    int8: bool = False,
    *,
    base: BaseModel,
    recipe: TrainingRecipe,
    vision: VisionShape,
) -> None:
    """The adapter's file, fp16 or with large weights as int8."""
    config = adapter_config(model, base, recipe, vision, provenance)
    checkpoint.save(path, adapter_from_model(model, config, recipe), int8=int8)


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def placeholder_embedding(model: SubjectDiffusionModel, recipe: TrainingRecipe) -> Tensor:
    """(D,) the token embedding of the placeholder word itself."""
    return token_embedding(model.text_encoder).weight[recipe.placeholder_token_id].detach()


def load_adapter(model: SubjectDiffusionModel, adapter: Adapter, source: str) -> None:
    """Start from a trained adapter instead of from nothing (``--init``)."""
    own = {with_text_prefix(name): name for name in model.text_encoder.state_dict()}
    try:
        model.grounding.load_state_dict(adapter.grounding)
        model.mlp.load_state_dict(adapter.mlp)
        unknown = model.unet.load_state_dict(adapter.unet, strict=False).unexpected_keys
        text = {own.get(name, name): value for name, value in adapter.text_encoder.items()}
        unknown += model.text_encoder.load_state_dict(text, strict=False).unexpected_keys
    except RuntimeError as error:
        raise CheckpointError(
            f"--init: expected an adapter of this base and recipe, got {source}: "
            f"{str(error).splitlines()[-1].strip()} Choose the recipe it was trained with."
        ) from error
    if unknown:
        raise CheckpointError(
            f"--init: expected an adapter of this base and recipe, got {source} with {unknown[0]}. "
            "Choose the recipe it was trained with."
        )
