# Shapes: B samples of a UNet call, U different branches in it, T grounding tokens, D their width, Q
#         latent positions,
#         d block width, h, w size of the latent.
"""The adapter inside ComfyUI's UNet: additive patches, the model class stays stock.

The DIFFUSION_MODEL wrapper takes the subjects of the call and puts what the patches need into a
copy of `transformer_options`. The patches hold no state, so several threads may run them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from ....subject_diffusion_core.box_fourier import BoxFourierEmbedder, cell_position_features
from ....subject_diffusion_core.gated_attention import CachedGroundingTokens
from ...host.cond import COND_KEY, WHOLE_PICTURE, BranchSubjects, FramedBranch, MergedSubjects
from ...host.generation import Generation
from ...host.unet_geometry import Location
from .adapter_modules import AdapterModules


@dataclass(frozen=True, kw_only=True, eq=False)
class CallTables:
    """What a set of branches needs at every step of a run.

    Attributes:
        branches: kept alive, as their ids are in the key of the table.
        cached_tokens: block name -> keys and values, batch U.
        token_bias: (U, T) for the attention logits, or None if all are zero.
        mask_features: (U, channels, h, w), the mask channel's share of conv_in's output, or None.
    """

    branches: tuple[FramedBranch, ...]
    cached_tokens: dict[str, CachedGroundingTokens]
    token_bias: torch.Tensor | None
    mask_features: torch.Tensor | None


@dataclass(frozen=True, kw_only=True, eq=False)
class CallSubjects:
    """The subjects of one UNet call, as the patches find them in transformer_options.

    Attributes:
        tables: of the U different branches.
        rows: (B,) long, which of the U branches each sample belongs to.
        parts: the U branches, each with its number of samples.
    """

    tables: CallTables
    rows: torch.Tensor
    parts: tuple[tuple[FramedBranch, int], ...]


def make_diffusion_model_wrapper(
    modules: AdapterModules, null: BranchSubjects
) -> Callable[..., Any]:
    """A wrapper for DIFFUSION_MODEL; `null` stands for calls that say nothing of subjects."""

    def diffusion_model(
        executor: Any,
        x: torch.Tensor,
        timesteps: Any = None,
        context: Any = None,
        y: Any = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        options = dict(transformer_options or {})
        merged = kwargs.pop(COND_KEY, None) or _null_call(null, x)
        generation = merged.generation or Generation((x.shape[-2], x.shape[-1]))
        sigmas = options.get("sigmas")
        if sigmas is None or generation.is_active(float(sigmas.flatten()[0])):
            options[COND_KEY] = _call_subjects(modules, merged, generation, x)
        return executor(x, timesteps, context, y, control, options, **kwargs)

    return diffusion_model


def make_middle_patch(
    modules: AdapterModules, block_names: dict[Location, str], strengths: dict[str, float]
) -> Callable[..., torch.Tensor]:
    """The gated layers, between self- and cross-attention of the blocks in `block_names`,
    each with its strength."""
    embedder = BoxFourierEmbedder(modules.config.num_freqs, modules.config.temperature)

    def middle_patch(x: torch.Tensor, extra_options: dict[str, Any]) -> torch.Tensor:
        call: CallSubjects | None = extra_options.get(COND_KEY)
        if call is None or "block" not in extra_options:
            return x
        kind, number = extra_options["block"]
        name = block_names.get((kind, number, extra_options.get("block_index", 0)))
        if name is None:
            return x
        tables, positions = call.tables, None
        if modules.config.query_positions:
            height, width = latent_size_of_block(extra_options, x.shape[1])
            positions = cell_position_features(height, width, embedder, x.device).to(x.dtype)
        bias = tables.token_bias
        return modules.gated_layer(name)(
            x,
            _select_rows(tables.cached_tokens[name], call.rows),
            strengths[name],
            token_bias=None if bias is None else bias[call.rows],
            query_positions=positions,
        )

    return middle_patch


def make_input_block_patch(strength: float) -> Callable[..., torch.Tensor]:
    """The mask channel: added to the output of conv_in, before the skip connection is stored."""

    def input_block_patch(h: torch.Tensor, transformer_options: dict[str, Any]) -> torch.Tensor:
        call: CallSubjects | None = transformer_options.get(COND_KEY)
        if call is None or transformer_options.get("block") != ("input", 0):
            return h
        features = call.tables.mask_features
        if features is None:
            return h
        return h + strength * features[call.rows]

    return input_block_patch


def latent_size_of_block(extra_options: dict[str, Any], num_positions: int) -> tuple[int, int]:
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


def _null_call(null: BranchSubjects, x: torch.Tensor) -> MergedSubjects:
    return MergedSubjects(parts=((FramedBranch(null, WHOLE_PICTURE), x.shape[0]),), generation=None)


def _call_subjects(
    modules: AdapterModules, merged: MergedSubjects, generation: Generation, x: torch.Tensor
) -> CallSubjects:
    branches = tuple(framed for framed, _ in merged.parts)
    counts = torch.tensor([count for _, count in merged.parts])
    # a wrapper around this one may have cut the batch up or repeated it
    if int(counts.sum()) != x.shape[0]:
        raise ValueError(
            f"batch: expected {int(counts.sum())} samples for the subjects of this call, got "
            f"{x.shape[0]}. Turn off other nodes that change the batch inside the UNet call."
        )
    key = (
        tuple((id(framed.branch), framed.frame) for framed in branches),
        (x.shape[-2], x.shape[-1], x.dtype, x.device),
    )
    tables = generation.once(key, lambda: _make_tables(modules, branches, x))
    rows = torch.repeat_interleave(torch.arange(len(branches)), counts).to(x.device)
    return CallSubjects(tables=tables, rows=rows, parts=merged.parts)


def _make_tables(
    modules: AdapterModules, branches: tuple[FramedBranch, ...], x: torch.Tensor
) -> CallTables:
    tokens, bias = _stack([modules.grounding_tokens(framed) for framed in branches])
    mask_features = None
    if modules.mask_conv is not None:
        masks = [modules.location_mask(framed, x.shape[-2], x.shape[-1]) for framed in branches]
        mask_features = modules.mask_conv(torch.cat(masks).to(x))
    return CallTables(
        branches=branches,
        cached_tokens=modules.cache_tokens(tokens.to(x)),
        token_bias=None if bias is None else bias.to(x),
        mask_features=mask_features,
    )


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


def _select_rows(cached: CachedGroundingTokens, rows: torch.Tensor) -> CachedGroundingTokens:
    if cached.key.shape[0] == 1:
        return cached
    return CachedGroundingTokens(key=cached.key[rows], value=cached.value[rows])
