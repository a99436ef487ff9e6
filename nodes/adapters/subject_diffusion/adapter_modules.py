# Shapes: U different branches in a UNet call, T grounding tokens, D their width, h, w size of the
#         latent.
"""The adapter's own modules, run by ComfyUI's memory management."""

from __future__ import annotations

from typing import Any

import comfy.ops
import torch
from torch import nn

from ....subject_diffusion_core.area_resize import area_resize
from ....subject_diffusion_core.gated_attention import CachedGroundingTokens, GatedSelfAttention
from ....subject_diffusion_core.grounding import subject_strength_bias
from ....subject_diffusion_core.location_mask import box_coverage, unite_subjects
from ...host.cond import FramedBranch
from ...host.patchers import wrap_in_patcher
from ...host.weight_diffs import CONV_IN_WEIGHT
from ..adapter_types import LoadedAdapter


class AdapterModules(nn.Module):
    """Grounding net, gated layers and the mask channel's kernel of one adapter."""

    def __init__(self, loaded: LoadedAdapter, dtype: torch.dtype) -> None:
        super().__init__()
        self.config = loaded.config
        blocks = loaded.adapter.build_adapters()
        self.block_names = tuple(blocks)
        self.grounding = with_manual_cast(loaded.adapter.build_grounding_net())
        self.gated_layers = with_manual_cast(nn.ModuleList(blocks.values())).to(dtype)
        self.mask_conv = self._build_mask_conv(loaded, dtype)
        self.requires_grad_(False)

    @property
    def has_mask_channel(self) -> bool:
        return self.mask_conv is not None

    def gated_layer(self, block_name: str) -> GatedSelfAttention:
        return self.gated_layers[self.block_names.index(block_name)]

    def grounding_tokens(self, framed: FramedBranch) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (1, T, D) and their attention bias (1, T) of one branch, in float32."""
        branch = framed.branch
        config = self.config
        if branch.is_null:
            tokens = self.grounding.null_tokens(config.num_subjects, config.null_rule)
            return tokens, tokens.new_zeros(tokens.shape[:2])
        boxes, valid = framed.subjects_in_frame()
        # where the raw parameters lie: ComfyUI does not move them when it loads a model in parts
        device = self.grounding.null_image_feature.device
        tokens = self.grounding(
            branch.patch_embeds[None].to(device),
            valid[None].to(device),
            boxes[None].to(device),
            use_boxes=branch.box_coordinates,
        )
        strengths = torch.where(valid, branch.token_strengths, 1.0)
        bias = subject_strength_bias(strengths[None], config.num_patches)
        return tokens, bias.to(tokens)

    def location_mask(self, framed: FramedBranch, height: int, width: int) -> torch.Tensor:
        """(1, 1, h, w); all zeros for a branch without subjects."""
        if framed.branch.is_null:
            return torch.zeros(1, 1, height, width)
        boxes, valid = framed.subjects_in_frame()
        coverage = box_coverage(boxes[None], height, width)
        for slot, region in enumerate(framed.branch.subject_regions):
            if region is not None:
                coverage[0, slot] = area_resize(region, height, width, framed.frame)
        return unite_subjects(coverage, valid[None], self.config.mask_polarity)

    def cache_tokens(self, tokens: torch.Tensor) -> dict[str, CachedGroundingTokens]:
        """(U, T, D) -> keys and values for every block."""
        return {name: self.gated_layer(name).cache_tokens(tokens) for name in self.block_names}

    def _build_mask_conv(self, loaded: LoadedAdapter, dtype: torch.dtype) -> nn.Module | None:
        """The kernel of conv_in's extra channel as a convolution of its own."""
        weight = loaded.adapter.unet.get(CONV_IN_WEIGHT)
        if weight is None or not self.config.location_control:
            return None
        kernel = weight[:, self.config.latent_channels :]
        conv = comfy.ops.manual_cast.Conv2d(
            1, kernel.shape[0], kernel.shape[-1], padding=kernel.shape[-1] // 2, bias=False
        )
        conv.weight = nn.Parameter(kernel.to(dtype).clone(), requires_grad=False)
        return conv


def build_adapter_patcher(loaded: LoadedAdapter, model: Any) -> Any:
    """The modules inside a ModelPatcher that loads and unloads together with the MODEL."""
    dtype = model.model.manual_cast_dtype or model.model_dtype()
    modules = AdapterModules(loaded, dtype).to(model.offload_device)
    return wrap_in_patcher(modules, model.load_device, model.offload_device)


def with_manual_cast(module: nn.Module) -> nn.Module:
    """Exchange linear layers and layer norms for ComfyUI's, which cast weights to the input."""
    for name, child in module.named_children():
        replacement = _manual_cast_layer(child)
        if replacement is None:
            with_manual_cast(child)
            continue
        replacement.weight, replacement.bias = child.weight, child.bias
        setattr(module, name, replacement.eval())
    return module


def _manual_cast_layer(layer: nn.Module) -> nn.Module | None:
    operations = comfy.ops.manual_cast
    with torch.device("meta"):
        if type(layer) is nn.Linear:
            return operations.Linear(
                layer.in_features, layer.out_features, bias=layer.bias is not None
            )
        if type(layer) is nn.LayerNorm:
            return operations.LayerNorm(layer.normalized_shape, eps=layer.eps)
    return None
