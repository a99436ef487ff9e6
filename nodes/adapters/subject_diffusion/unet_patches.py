# Shapes: B samples of a UNet call, U parts (branches) in it, T grounding tokens, D their width, Q
#         latent positions, d block width, h, w size of the latent.
"""The adapter inside ComfyUI's UNet: its own modules, run by ComfyUI's memory management, and
additive patches, so that the model class stays stock.

The patches hold no state, so several threads may run them: what a run computes once hangs on the
`BranchCall` that they find in `transformer_options`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import cast

import comfy.ops
import torch
from torch import nn
from torch.nn import functional as F

from ....subject_diffusion_core.area_resize import area_resize
from ....subject_diffusion_core.box_fourier import BoxFourierEmbedder, cell_position_features
from ....subject_diffusion_core.checkpoint import Adapter
from ....subject_diffusion_core.gated_attention import CachedGroundingTokens, GatedSelfAttention
from ....subject_diffusion_core.grounding import subject_strength_bias
from ....subject_diffusion_core.location_mask import (
    box_coverage,
    mask_in_box_coverage,
    unite_subjects,
)
from ...host.attention_choice import chosen_attention
from ...host.comfy_types import Options
from ...host.patchers import with_manual_cast
from ...host.run_attachment import BranchCall, BranchCond
from ...host.unet_geometry import Location, latent_size_of_block, location_of_block
from ..family import ATTACHMENT_KEY

CONV_IN_WEIGHT = "conv_in.weight"


class AdapterModules(nn.Module):
    """Grounding net, gated layers and the mask channel's kernel of one adapter."""

    def __init__(self, adapter: Adapter, dtype: torch.dtype) -> None:
        super().__init__()
        self.config = adapter.config
        blocks = adapter.build_adapters()
        self.block_names = tuple(blocks)
        self.grounding = with_manual_cast(adapter.build_grounding_net())
        self.gated_layers = with_manual_cast(nn.ModuleList(blocks.values())).to(dtype)
        self.mask_conv = self._build_mask_conv(adapter, dtype)
        self.requires_grad_(False)

    @property
    def has_mask_channel(self) -> bool:
        return self.mask_conv is not None

    def gated_layer(self, block_name: str) -> GatedSelfAttention:
        return cast(GatedSelfAttention, self.gated_layers[self.block_names.index(block_name)])

    def cache_tokens(self, call: BranchCall, x: torch.Tensor) -> dict[str, CachedGroundingTokens]:
        """Block name -> what its layer needs of the branches at every step of a run, batch U."""
        tokens, bias = _stack([self.grounding_tokens(part) for part in call.parts])
        bias = None if bias is None else bias.to(x)
        return {
            name: replace(self.gated_layer(name).cache_tokens(tokens.to(x)), bias=bias)
            for name in self.block_names
        }

    def mask_features(self, call: BranchCall, h: torch.Tensor) -> torch.Tensor:
        """(U, channels, h, w): the mask channel's share of conv_in's output h."""
        assert self.mask_conv is not None
        masks = [self.location_mask(part, h.shape[-2], h.shape[-1]) for part in call.parts]
        features: torch.Tensor = self.mask_conv(torch.cat(masks).to(h))
        return features

    def grounding_tokens(self, part: BranchCond) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (1, T, D) and their attention bias (1, T) of one branch, in float32."""
        branch, config = part.value, self.config
        if branch.is_null:
            tokens = self.grounding.null_tokens(config.num_subjects, config.null_rule)
            return tokens, tokens.new_zeros(tokens.shape[:2])
        boxes, valid = branch.subjects_in(part.frame)
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

    def location_mask(self, part: BranchCond, height: int, width: int) -> torch.Tensor:
        """(1, 1, h, w); all zeros for a branch without subjects."""
        branch, frame = part.value, part.frame
        if branch.is_null:
            return torch.zeros(1, 1, height, width)
        boxes, valid = branch.subjects_in(frame)
        coverage = box_coverage(boxes[None], height, width)
        for slot, mask in enumerate(branch.subject_masks):
            if mask is not None:
                box = branch.subject_boxes_xyxy[slot]
                coverage[0, slot] = mask_in_box_coverage(mask, box, height, width, frame)
        for slot, region in enumerate(branch.subject_regions):
            if region is not None:
                coverage[0, slot] = area_resize(region, height, width, frame)
        return unite_subjects(coverage, valid[None], self.config.mask_polarity)

    def _build_mask_conv(self, adapter: Adapter, dtype: torch.dtype) -> nn.Module | None:
        """The kernel of conv_in's extra channel as a convolution of its own."""
        weight = adapter.unet.get(CONV_IN_WEIGHT)
        if weight is None or not self.config.location_control:
            return None
        kernel = weight[:, self.config.latent_channels :]
        conv: nn.Module = comfy.ops.manual_cast.Conv2d(
            1, kernel.shape[0], kernel.shape[-1], padding=kernel.shape[-1] // 2, bias=False
        )
        conv.weight = nn.Parameter(kernel.to(dtype).clone(), requires_grad=False)
        return conv


def make_middle_patch(
    modules: AdapterModules, block_names: dict[Location, str], strengths: dict[str, float]
) -> Callable[[torch.Tensor, Options], torch.Tensor]:
    """The gated layers, between self- and cross-attention of the blocks in `block_names`,
    each with its strength."""
    embedder = BoxFourierEmbedder(modules.config.num_freqs, modules.config.temperature)

    def positions_of(call: BranchCall, x: torch.Tensor, options: Options) -> torch.Tensor:
        assert call.run is not None
        height, width = latent_size_of_block(options, x.shape[1])
        return call.run.once(
            ("positions", height, width, x.dtype, x.device),
            lambda: cell_position_features(height, width, embedder, x.device).to(x.dtype),
        )

    def middle_patch(x: torch.Tensor, extra_options: Options) -> torch.Tensor:
        call: BranchCall | None = extra_options.get(ATTACHMENT_KEY)
        location = location_of_block(extra_options)
        if call is None or location not in block_names:
            return x
        name = block_names[location]
        cached = call.once("tokens", lambda: modules.cache_tokens(call, x), x.dtype, x.device)[name]
        has_positions = modules.config.query_positions
        rows = call.rows(x.device)
        out: torch.Tensor = modules.gated_layer(name)(
            x,
            cached if rows is None else cached.of_samples(rows),
            strengths[name],
            query_positions=positions_of(call, x, extra_options) if has_positions else None,
            attention=chosen_attention(extra_options),
        )
        return out

    return middle_patch


def make_input_block_patch(
    modules: AdapterModules, strength: float
) -> Callable[[torch.Tensor, Options], torch.Tensor]:
    """The mask channel: added to the output of conv_in, before the skip connection is stored."""

    def input_block_patch(h: torch.Tensor, transformer_options: Options) -> torch.Tensor:
        call: BranchCall | None = transformer_options.get(ATTACHMENT_KEY)
        is_conv_in = transformer_options.get("block") == ("input", 0)
        if call is None or not is_conv_in or not modules.has_mask_channel:
            return h
        features = call.once(
            "mask", lambda: modules.mask_features(call, h), h.shape[-2:], h.dtype, h.device
        )
        rows = call.rows(h.device)
        return h + strength * (features if rows is None else features[rows])

    return input_block_patch


def _stack(
    pairs: list[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """[(1, T_i, D), (1, T_i)] -> (U, T, D), (U, T): the columns of padding are never read."""
    longest = max(tokens.shape[1] for tokens, _ in pairs)
    stacked_tokens, stacked_bias = [], []
    for tokens, bias in pairs:
        missing = longest - tokens.shape[1]
        stacked_tokens.append(F.pad(tokens, (0, 0, 0, missing)).cpu())
        stacked_bias.append(F.pad(bias, (0, missing), value=float("-inf")).cpu())
    bias = torch.cat(stacked_bias)
    return torch.cat(stacked_tokens), (bias if bool(bias.any()) else None)
