# Shapes: B samples of a UNet call, H heads, Q queries, L keys.
"""The attention function that the user chose, for attention of a method's own layers.

ComfyUI has one for all layers of a UNet: a start option (`--use-sage-attention`, xformers, split,
...), or an override that another node put into `transformer_options`. Where nobody chose, ComfyUI
takes PyTorch's, or, on a CPU, the sub-quadratic one to save memory; PyTorch's saves it as well, so
a method's own layers use that one in both cases.
"""

from __future__ import annotations

import torch
from comfy.cli_args import args
from comfy.ldm.modules import attention as comfy_attention

from ...subject_diffusion_core.gated_attention import AttentionFunction
from .attention_terms import override_of_others
from .comfy_types import Options


def chosen_attention(options: Options) -> AttentionFunction | None:
    """The function that the user chose; None where nobody chose.

    Args:
        options: `extra_options` as ComfyUI's patches get them.
    """
    if override_of_others(options) is None and not _is_chosen_at_start():
        return None

    def attention(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        heads = query.shape[1]
        attended: torch.Tensor = comfy_attention.optimized_attention(
            *(states.transpose(1, 2).flatten(2) for states in (query, key, value)),
            heads,
            mask=None if bias is None else _mask(bias, query),
            attn_precision=options.get("attn_precision"),
            transformer_options=options,
        )
        split: torch.Tensor = attended.unflatten(-1, (heads, -1))
        return split.transpose(1, 2)

    return attention


def _is_chosen_at_start() -> bool:
    function = comfy_attention.optimized_attention
    if function is comfy_attention.attention_sub_quad:
        return bool(args.use_quad_cross_attention)
    return function is not comfy_attention.attention_pytorch


def _mask(bias: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """(B, 1, Q, L): not every function broadcasts."""
    return bias.expand(query.shape[0], 1, query.shape[2], bias.shape[-1])
