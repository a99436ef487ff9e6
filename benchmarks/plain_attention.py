"""Attention as the reference code computes it: plain matrix products, whole maps kept.

# Shapes: B batch, H heads, Q latent positions, L text tokens, K watched tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from training.networks.fused_attention import project_heads, set_processors


@dataclass
class TokenMaps:
    """Collects, per cross-attention layer, the probabilities of some tokens: (B, H, Q, K).

    ``token_positions`` (B, K) long: which text tokens. Empty ``probs`` before every UNet call.
    """

    token_positions: Tensor | None = None
    probs: list[Tensor] = field(default_factory=list)

    def watch(self, token_positions: Tensor | None) -> None:
        """Start anew; None stops the recording."""
        self.token_positions = token_positions
        self.probs = []

    def record(self, probs: Tensor) -> None:
        """Keep the watched columns of ``probs`` (B, H, Q, L)."""
        if self.token_positions is None:
            return
        heads, queries = probs.shape[1:3]
        index = self.token_positions[:, None, None, :].expand(-1, heads, queries, -1)
        self.probs.append(probs.gather(-1, index))


class PlainAttention:
    """diffusers attention processor: softmax(q k^T / sqrt(d)) v, recording cross-attention maps."""

    def __init__(self, token_maps: TokenMaps) -> None:
        self.token_maps = token_maps

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        query, key, value = project_heads(attn, hidden_states, encoder_hidden_states)
        scores = torch.matmul(query * attn.scale, key.transpose(-1, -2))
        probs = scores.softmax(-1)
        if encoder_hidden_states is not None:
            self.token_maps.record(probs)
        output = torch.matmul(probs, value).transpose(1, 2).flatten(2)
        projected: Tensor = attn.to_out[1](attn.to_out[0](output))
        return projected


def use_plain_attention(unet: UNet2DConditionModel) -> TokenMaps:
    """Install :class:`PlainAttention` everywhere but in the adapters; returns its recorder."""
    token_maps = TokenMaps()
    set_processors(unet, PlainAttention(token_maps))
    return token_maps
