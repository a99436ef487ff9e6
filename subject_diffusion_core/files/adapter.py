"""A trained adapter in memory: its configuration, its weights, and the modules they build."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar

import torch
from torch import nn

from ..errors import CheckpointError, shown
from ..gated_attention import GatedSelfAttention
from ..grounding import GroundingNet
from ..text_fusion import ImageEmbedProjector
from .adapter_config import AdapterConfig, config_to_json

StateDict = dict[str, torch.Tensor]
Module = TypeVar("Module", bound=nn.Module)
PARTS = ("unet", "text_encoder", "grounding", "mlp")
_TEXT_ENCODER_KEY = re.compile(
    r"text_model\.(embeddings\.(token|position)_embedding\.weight"
    r"|encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12]|layer_norm[12])\.(weight|bias)"
    r"|final_layer_norm\.(weight|bias))"
)


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A trained adapter. All weights are absolute, not differences to the base.

    Attributes:
        config: what the weights mean.
        unet: under diffusers' names: `<block>.fuser.*`, `<block>.attn2.to_k.weight`,
            `<block>.attn2.to_v.weight`, `conv_in.weight` (latent_channels + 1 inputs) and
            `conv_in.bias`.
        text_encoder: trained tensors under the names `text_model.*` of a CLIP text model's file.
        grounding: state dict of `GroundingNet`.
        mlp: state dict of `ImageEmbedProjector`.
    """

    config: AdapterConfig
    unet: StateDict = field(default_factory=dict)
    text_encoder: StateDict = field(default_factory=dict)
    grounding: StateDict = field(default_factory=dict)
    mlp: StateDict = field(default_factory=dict)

    def build_grounding_net(self) -> GroundingNet:
        """The grounding net with its weights, copied, in float32, in eval mode."""
        with torch.device("meta"):
            module = new_grounding_net(self.config)
        return with_weights(module, self.grounding)

    def build_projector(self) -> ImageEmbedProjector:
        """The projector of image embeddings with its weights, copied, in float32, in eval mode."""
        with torch.device("meta"):
            module = new_projector(self.config)
        return with_weights(module, self.mlp)

    def build_adapters(self) -> dict[str, GatedSelfAttention]:
        """Block name -> gated layer with its weights, copied, in float32, in eval mode."""
        with torch.device("meta"):
            modules = new_adapters(self.config)
        weights: dict[str, StateDict] = {name: {} for name in modules}
        for key, tensor in self.unet.items():
            block, is_gated, name = key.partition(".fuser.")
            if is_gated:
                weights[block][name] = tensor
        return {name: with_weights(module, weights[name]) for name, module in modules.items()}

    def tensors(self) -> StateDict:
        """All weights under the names of the file, each part with its own prefix."""
        return {
            f"{part}.{name}": tensor
            for part in PARTS
            for name, tensor in getattr(self, part).items()
        }

    @cached_property
    def fingerprint(self) -> str:
        """Tells adapters apart by their configuration and every number of their weights.

        Computed when it is first asked for, in about a second per gigabyte.
        """
        digest = hashlib.sha256(config_to_json(self.config).encode())
        for name, tensor in sorted(self.tensors().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            numbers = tensor.detach().cpu().contiguous().flatten()
            digest.update(numbers.view(torch.uint8).numpy().data)
        return digest.hexdigest()[:32]


def new_grounding_net(config: AdapterConfig) -> GroundingNet:
    """A grounding net of the configuration, untrained."""
    return GroundingNet.from_options(
        config,
        patch_dim=config.patch_dim,
        num_patches=config.num_patches,
        out_dim=config.grounding_out_dim,
    )


def new_projector(config: AdapterConfig) -> ImageEmbedProjector:
    """A projector of the configuration, untrained."""
    return ImageEmbedProjector(
        config.image_embed_dim, config.projector_hidden_dim, config.projector_out_dim
    )


def new_adapters(config: AdapterConfig) -> dict[str, GatedSelfAttention]:
    """Block name -> gated layer of the configuration, untrained."""
    return {
        block.name: GatedSelfAttention.from_options(
            config,
            query_dim=block.query_dim,
            context_dim=config.grounding_out_dim,
            num_heads=block.num_heads,
            head_dim=block.head_dim,
        )
        for block in config.adapter_blocks
    }


def with_weights(module: Module, weights: Mapping[str, torch.Tensor]) -> Module:
    """A module that was made on "meta", with float32 copies of these weights, in eval mode."""
    copies = {
        name: tensor.detach().to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, tensor in weights.items()
    }
    module.load_state_dict(copies, assign=True)
    return module.eval()


def expected_shapes(config: AdapterConfig) -> dict[str, tuple[int | None, ...]]:
    """Name -> shape of every tensor that a file of this configuration must hold; None stands for
    any size.

    Tensors of the text encoder are not listed: only the trained ones are stored, see
    `require_contract`.
    """
    shapes: dict[str, tuple[int | None, ...]] = {}
    with torch.device("meta"):
        modules = {
            "grounding": new_grounding_net(config),
            "mlp": new_projector(config),
            **{f"unet.{name}.fuser": module for name, module in new_adapters(config).items()},
        }
    for prefix, module in modules.items():
        shapes |= {f"{prefix}.{k}": tuple(v.shape) for k, v in module.state_dict().items()}
    if "cross_attention_kv" in config.trained_parts:
        for block in config.adapter_blocks:
            shape = (block.query_dim, config.cross_attention_dim)
            shapes |= {f"unet.{block.name}.attn2.to_{kind}.weight": shape for kind in "kv"}
    if "conv_in" in config.trained_parts:
        shapes["unet.conv_in.weight"] = (None, config.latent_channels + 1, 3, 3)
        shapes["unet.conv_in.bias"] = (None,)
    return shapes


class Shaped(Protocol):
    """A tensor, or what a file's header says of one."""

    @property
    def shape(self) -> Sequence[int]: ...


def require_contract(config: AdapterConfig, tensors: Mapping[str, Shaped], source: str) -> None:
    """Raise CheckpointError unless the tensors are exactly those the configuration asks for."""
    expected = expected_shapes(config)
    text_names = {n for n in tensors if n.startswith("text_encoder.")}
    unknown = {n for n in text_names if not _TEXT_ENCODER_KEY.fullmatch(n.split(".", 1)[1])}
    unknown |= set(tensors) - text_names - set(expected)
    missing = sorted(set(expected) - set(tensors))
    if "text_encoder" in config.trained_parts and not text_names:
        missing.append("text_encoder.*")
    if "text_encoder" not in config.trained_parts:
        unknown |= text_names
    for names, what in ((missing, "without"), (sorted(unknown), "with unknown")):
        if names:
            raise CheckpointError(
                f"{source}: expected the tensors of its configuration, got a file {what} "
                f"{_enumerate(names)}. Export the adapter again with its own configuration."
            )
    for name, shape in expected.items():
        got = tuple(tensors[name].shape)
        if len(got) != len(shape) or any(
            w not in (None, g) for w, g in zip(shape, got, strict=True)
        ):
            wanted = ", ".join("any" if size is None else str(size) for size in shape)
            raise CheckpointError(
                f"{source}: expected '{name}' of shape ({wanted}), got {got}. "
                "The weights belong to another configuration: export the adapter again."
            )


def _enumerate(names: list[str], limit: int = 3) -> str:
    listed = ", ".join(f"'{shown(name, 120)}'" for name in names[:limit])
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more"
