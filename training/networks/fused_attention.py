"""Fused attention of the training UNet, and the few columns of it that the map loss needs.

# Shapes: B batch, H heads, Q latent positions, L text tokens, K watched tokens, d width of a head.
The columns are exp(q.k - logsumexp over L). Forward keeps q, k and one number a position; backward
computes the logits again, one sample at a time, so no attention map is ever stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor


def _wide(tensor: Tensor) -> Tensor:
    """float32, or float64 where it came so."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


class WatchedColumns(torch.autograd.Function):
    """Columns (B, H, Q, K) of softmax(scale q k^T) at the tokens ``positions`` (B, K)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, positions: Tensor, scale: float) -> Tensor:
        sums, columns = [], []
        with torch.autocast(query.device.type, enabled=False):
            for q, k, index in zip(query, key, positions, strict=True):
                logits = (_wide(q) * scale) @ _wide(k).transpose(-2, -1)
                sums.append(logits.logsumexp(-1))
                columns.append((logits[..., index] - sums[-1][..., None]).exp())
        ctx.scale = scale
        ctx.save_for_backward(query, key, positions, torch.stack(sums), torch.stack(columns))
        return torch.stack(columns)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        query, key, positions, sums, columns = ctx.saved_tensors
        to_query, to_key = torch.empty_like(query), torch.empty_like(key)
        with torch.autocast(query.device.type, enabled=False):
            for row, index in enumerate(positions):
                q, k = _wide(query[row]) * ctx.scale, _wide(key[row])
                weighted = gradient[row] * columns[row]
                probs = (q @ k.transpose(-2, -1) - sums[row][..., None]).exp()
                slope = -probs * weighted.sum(-1, keepdim=True)
                slope.index_add_(-1, index, weighted)
                to_query[row] = (slope @ k) * ctx.scale
                to_key[row] = slope.transpose(-2, -1) @ q
        return to_query, to_key, None, None


@dataclass
class WatchedTokens:
    """Which text tokens' attention is recorded, and the records: one (B, H, Q, K) per layer.

    ``positions`` (B, K) long, None for nothing. Layers with more than ``max_queries`` positions are
    left out: the map loss looks at half the latent's size and below.
    """

    positions: Tensor | None = None
    max_queries: int = 0
    columns: list[Tensor] = field(default_factory=list)
    _recording: bool = False

    @contextmanager
    def recording(self, positions: Tensor | None, max_queries: int) -> Iterator[list[Tensor]]:
        """Record during one forward pass.

        What is watched stays set until the next one: under gradient checkpointing the backward
        pass computes the layers again and must do the same, without being recorded.
        """
        self.positions, self.max_queries = positions, max_queries
        self.columns = []
        self._recording = True
        try:
            yield self.columns
        finally:
            self._recording = False

    def see(self, query: Tensor, key: Tensor, scale: float) -> None:
        """What a cross-attention layer calls with its (B, H, Q, d) and (B, H, L, d)."""
        if self.positions is None or query.shape[2] > self.max_queries:
            return
        columns: Tensor = WatchedColumns.apply(query, key, self.positions, scale)  # type: ignore[no-untyped-call]
        if self._recording:
            self.columns.append(columns)


def project_heads(
    attn: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Query (B, H, Q, d), key and value (B, H, L, d): of the states alone where nothing else is."""
    context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
    pairs = ((attn.to_q, hidden_states), (attn.to_k, context), (attn.to_v, context))
    query, key, value = (
        projection(source).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        for projection, source in pairs
    )
    return query, key, value


def set_processors(unet: UNet2DConditionModel, processor: Any) -> None:
    """Install a processor everywhere but in the adapters, which attend by themselves."""
    own = {name: attn for name, attn in unet.attn_processors.items() if ".fuser." in name}
    unet.set_attn_processor({**dict.fromkeys(unet.attn_processors, processor), **own})


class FusedAttention:
    """diffusers attention processor on PyTorch's fused kernel.

    ``image_term``: what cross-attention adds to the text's, (B, H, Q, d), given layer and query; it
    comes in diffusers' ``cross_attention_kwargs``.
    """

    def __init__(self, watched: WatchedTokens) -> None:
        self.watched = watched

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_term: Callable[[Attention, Tensor], Tensor] | None = None,
        **_: object,
    ) -> Tensor:
        query, key, value = project_heads(attn, hidden_states, encoder_hidden_states)
        if encoder_hidden_states is not None:
            self.watched.see(query, key, attn.scale)
        attended = F.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        if image_term is not None and encoder_hidden_states is not None:
            attended = attended + image_term(attn, query)
        projected: Tensor = attn.to_out[1](attn.to_out[0](attended.transpose(1, 2).flatten(2)))
        return projected


def use_fused_attention(unet: UNet2DConditionModel) -> WatchedTokens:
    """Install :class:`FusedAttention` everywhere but in the adapters; returns its recorder."""
    watched = WatchedTokens()
    set_processors(unet, FusedAttention(watched))
    return watched
