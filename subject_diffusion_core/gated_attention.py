# Shapes: B batch, Q visual tokens (latent positions), T grounding tokens, d block width, H heads, K
# width of a head.
"""The adapter between self- and cross-attention: GLIGEN's gated self-attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from .adapter_options import AdapterOptions
from .errors import ShapeError, require_shape

Layer = TypeVar("Layer", bound="GatedSelfAttention")
# Query (B, H, Q, K), key and value (B, H, L, K), and what is added to the logits, (B or 1, 1, 1, L)
# or None -> (B, H, Q, K).
AttentionFunction = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor
]


@dataclass(frozen=True, kw_only=True)
class CachedGroundingTokens:
    """Keys and values of the grounding tokens for one adapter; computed once per generation.

    Attributes:
        key, value: (B, H, T, K); B may be 1 for any batch.
        bias: (B, T) for the attention logits, see `GatedSelfAttention.forward`; None = all zero.
    """

    key: torch.Tensor
    value: torch.Tensor
    bias: torch.Tensor | None = None

    def of_samples(self, rows: torch.Tensor) -> CachedGroundingTokens:
        """For a batch whose sample i has the tokens of row `rows[i]`; rows (B,) long."""
        bias = None if self.bias is None else self.bias[rows]
        return CachedGroundingTokens(key=self.key[rows], value=self.value[rows], bias=bias)


class GeGlu(nn.Module):
    """Linear to twice the width, one half gated by the GELU of the other."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_dim, 2 * out_dim)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., in_dim) -> (..., out_dim)."""
        content, gate = self.proj(hidden_states).chunk(2, dim=-1)
        gated: torch.Tensor = content * F.gelu(gate)
        return gated


class GatedFeedForward(nn.Module):
    """GEGLU feed-forward, four times as wide inside, under diffusers' names (net.0.proj, net.2)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        # net.1 is diffusers' dropout of probability 0: it keeps the index of the last layer
        self.net = nn.Sequential(GeGlu(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(B, Q, d) -> (B, Q, d)."""
        hidden: torch.Tensor = self.net(hidden_states)
        return hidden


class AttentionProjections(nn.Module):
    """Projections of multi-head attention under diffusers' names (to_q, to_k, to_v, to_out.0)."""

    def __init__(self, query_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        inner_dim = num_heads * head_dim
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.to_q = nn.Linear(query_dim, inner_dim, bias=False)
        self.to_k = nn.Linear(query_dim, inner_dim, bias=False)
        self.to_v = nn.Linear(query_dim, inner_dim, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(inner_dim, query_dim)])

    def split_heads(self, states: torch.Tensor) -> torch.Tensor:
        """(B, T, H*K) -> (B, H, T, K)."""
        batch, length, _ = states.shape
        return states.view(batch, length, self.num_heads, self.head_dim).transpose(1, 2)

    def merge_heads(self, states: torch.Tensor) -> torch.Tensor:
        """(B, H, Q, K) -> (B, Q, d), through the output projection."""
        merged: torch.Tensor = self.to_out[0](states.transpose(1, 2).flatten(2))
        return merged


class GatedSelfAttention(nn.Module):
    """GLIGEN's gated layer, equal to diffusers' `GatedSelfAttentionDense`, with a strength beta.

    x = x + beta * tanh(alpha_attn) * SelfAttention(LN([x, linear(g)]))[:Q]
    x = x + beta * tanh(alpha_dense) * FF(LN(x))

    Only the Q visual queries are computed; the grounding tokens serve as keys and values.

    Args:
        query_dim: d.
        context_dim: width of a grounding token.
        num_heads, head_dim: H and K.
        query_position_dim: width of position features added (through a linear layer that starts at
            zero) to the normed visual tokens; 0 is the paper's layer, without them.
        token_positions: whether the last `query_position_dim` columns of a grounding token are its
            own position features, which take the same way: then q.k can tell that a latent cell and
            a reference patch lie at the same place.
    """

    def __init__(
        self,
        query_dim: int,
        context_dim: int,
        num_heads: int,
        head_dim: int,
        query_position_dim: int = 0,
        token_positions: bool = False,
    ) -> None:
        super().__init__()
        if token_positions and query_position_dim == 0:
            raise ValueError(
                "token_positions: expected query_position_dim > 0 with it, got 0. "
                "Turn query positions on, too."
            )
        self.query_dim = query_dim
        self.context_dim = context_dim
        self.query_position_dim = query_position_dim
        self.token_position_dim = query_position_dim if token_positions else 0
        self.use_sdpa = True
        self.linear = nn.Linear(context_dim, query_dim)
        self.attn = AttentionProjections(query_dim, num_heads, head_dim)
        self.ff = GatedFeedForward(query_dim)
        self.norm1 = nn.LayerNorm(query_dim)
        self.norm2 = nn.LayerNorm(query_dim)
        self.alpha_attn = nn.Parameter(torch.tensor(0.0))
        self.alpha_dense = nn.Parameter(torch.tensor(0.0))
        if query_position_dim > 0:
            self.query_position = nn.Linear(query_position_dim, query_dim, bias=False)
            nn.init.zeros_(self.query_position.weight)

    @classmethod
    def from_options(
        cls: type[Layer],
        options: AdapterOptions,
        *,
        query_dim: int,
        context_dim: int,
        num_heads: int,
        head_dim: int,
    ) -> Layer:
        """The layer of one block of an adapter with these options, untrained."""
        return cls(
            query_dim=query_dim,
            context_dim=context_dim,
            num_heads=num_heads,
            head_dim=head_dim,
            query_position_dim=options.query_position_dim,
            token_positions=options.token_positions,
        )

    def cache_tokens(self, grounding_tokens: torch.Tensor) -> CachedGroundingTokens:
        """Compute keys and values of the grounding tokens, once per generation.

        Args:
            grounding_tokens: (B, T, context_dim), or (B, T, context_dim + query_position_dim) with
                token_positions.

        Returns:
            What `forward` accepts in place of the tokens.
        """
        require_shape(
            "grounding_tokens",
            grounding_tokens,
            ("B", "T", self.context_dim + self.token_position_dim),
            "Use the grounding net of the same checkpoint",
        )
        normed = self.norm1(self.linear(grounding_tokens[..., : self.context_dim]))
        if self.token_position_dim > 0:
            normed = normed + self.query_position(grounding_tokens[..., self.context_dim :])
        key = self.attn.split_heads(self.attn.to_k(normed))
        value = self.attn.split_heads(self.attn.to_v(normed))
        return CachedGroundingTokens(key=key, value=value)

    def forward(
        self,
        hidden_states: torch.Tensor,
        grounding_tokens: torch.Tensor | CachedGroundingTokens,
        adapter_scale: float | torch.Tensor = 1.0,
        *,
        token_bias: torch.Tensor | None = None,
        query_positions: torch.Tensor | None = None,
        attention: AttentionFunction | None = None,
    ) -> torch.Tensor:
        """Let the visual tokens attend to themselves and to the subjects.

        Args:
            hidden_states: (B, Q, d) visual tokens.
            grounding_tokens: as for `cache_tokens`, with a batch of B or 1, or its result.
            adapter_scale: beta; a number, or a tensor that broadcasts to (B, 1, 1). 0 changes
                nothing, bit for bit.
            token_bias: (B or 1, T) added to the attention logits of the grounding tokens: log of a
                subject's strength, -inf removes a token; cached tokens bring their own.
            query_positions: (B or 1, Q, query_position_dim); needed if and only if
                `query_position_dim` > 0.
            attention: computes the attention; None: PyTorch's.

        Returns:
            (B, Q, d).
        """
        expected = ("B", "Q", self.query_dim)
        require_shape("hidden_states", hidden_states, expected, "Use the adapter of this block")
        if isinstance(adapter_scale, (int, float)) and adapter_scale == 0:
            return hidden_states
        cached = (
            grounding_tokens
            if isinstance(grounding_tokens, CachedGroundingTokens)
            else self.cache_tokens(grounding_tokens)
        )
        bias = cached.bias if token_bias is None else token_bias
        attended = self._attend(hidden_states, cached, bias, query_positions, attention)
        hidden_states = hidden_states + adapter_scale * self.alpha_attn.tanh() * attended
        dense = self.ff(self.norm2(hidden_states))
        gated: torch.Tensor = hidden_states + adapter_scale * self.alpha_dense.tanh() * dense
        return gated

    def _attend(
        self,
        hidden_states: torch.Tensor,
        cached: CachedGroundingTokens,
        token_bias: torch.Tensor | None,
        query_positions: torch.Tensor | None,
        attention: AttentionFunction | None,
    ) -> torch.Tensor:
        normed = self.norm1(hidden_states)
        if self.query_position_dim > 0 or query_positions is not None:
            normed = normed + self._project_positions(query_positions, hidden_states)
        query, key, value = (
            self.attn.split_heads(projection(normed))
            for projection in (self.attn.to_q, self.attn.to_k, self.attn.to_v)
        )
        batch, num_queries = hidden_states.shape[:2]
        _require_batch("grounding_tokens", cached.key, batch)
        expand = (batch, -1, -1, -1)
        key = torch.cat((key, cached.key.expand(expand)), dim=2)
        value = torch.cat((value, cached.value.expand(expand)), dim=2)
        logit_bias = None
        if token_bias is not None:
            logit_bias = _column_bias(token_bias, batch, num_queries, cached.key.shape[2], query)
        if attention is None:
            attention = _fused_attention if self.use_sdpa else _matmul_attention
        return self.attn.merge_heads(attention(query, key, value, logit_bias))

    def _project_positions(
        self, query_positions: torch.Tensor | None, hidden_states: torch.Tensor
    ) -> torch.Tensor:
        if query_positions is None or self.query_position_dim == 0:
            got = "None" if query_positions is None else f"shape {tuple(query_positions.shape)}"
            wanted = (
                f"(B or 1, Q, {self.query_position_dim})" if query_positions is None else "None"
            )
            raise ShapeError(
                f"query_positions: expected {wanted}, got {got}. "
                "Pass positions if and only if the checkpoint says query_positions."
            )
        expected = ("B", hidden_states.shape[1], self.query_position_dim)
        require_shape("query_positions", query_positions, expected, "Pass one row per latent cell")
        projected: torch.Tensor = self.query_position(query_positions.to(hidden_states))
        return projected


def _require_batch(argument: str, tensor: torch.Tensor, batch: int) -> None:
    if tensor.shape[0] not in (1, batch):
        raise ShapeError(
            f"{argument}: expected a batch of 1 or {batch}, got {tensor.shape[0]}. "
            "Repeat them to the batch of the hidden states."
        )


def _column_bias(
    token_bias: torch.Tensor, batch: int, num_queries: int, num_tokens: int, query: torch.Tensor
) -> torch.Tensor:
    """(B or 1, T) -> (B or 1, 1, 1, Q + T): no bias on the visual columns."""
    require_shape("token_bias", token_bias, ("B", num_tokens), "Pass one number per token")
    _require_batch("token_bias", token_bias, batch)
    padded = F.pad(token_bias.to(query), (num_queries, 0))
    return padded[:, None, None, :]


def _fused_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, logit_bias: torch.Tensor | None
) -> torch.Tensor:
    """PyTorch's kernels."""
    return F.scaled_dot_product_attention(query, key, value, attn_mask=logit_bias)


def _matmul_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, logit_bias: torch.Tensor | None
) -> torch.Tensor:
    """Plain attention: on CPUs its backward pass is faster than the fused kernel's."""
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if logit_bias is not None:
        logits = logits + logit_bias
    attended: torch.Tensor = logits.softmax(dim=-1) @ value
    return attended
