# Shapes: N pictures or subjects, L tokens of the image encoder, E their width, T queries = image
#         tokens, d inner width, C width of an image token, G width of a label's embedding.
"""Resamplers: a few latents that look at all tokens of the image encoder."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from ..box_fourier import BoxFourierEmbedder
from ..errors import require_shape


class PerceiverAttention(nn.Module):
    """Latents look at the picture and at themselves."""

    def __init__(self, dim: int, head_dim: int, num_heads: int) -> None:
        super().__init__()
        inner_dim = head_dim * num_heads
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner_dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner_dim, bias=False)
        self.to_out = nn.Linear(inner_dim, dim, bias=False)

    def forward(self, hidden_states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """(N, L, d), (N, T, d) -> (N, T, d)."""
        normed = self.norm2(latents)
        seen = torch.cat((self.norm1(hidden_states), normed), dim=1)
        key, value = self.to_kv(seen).chunk(2, dim=-1)
        query, key, value = (
            states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for states in (self.to_q(normed), key, value)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        merged: torch.Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return merged


def feed_forward(dim: int) -> nn.Sequential:
    """LayerNorm, Linear, GELU, Linear; four times as wide inside, without biases."""
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, 4 * dim, bias=False),
        nn.GELU(),
        nn.Linear(4 * dim, dim, bias=False),
    )


def new_layers(dim: int, depth: int, head_dim: int, num_heads: int) -> nn.ModuleList:
    """`depth` pairs of attention and feed-forward."""
    return nn.ModuleList(
        nn.ModuleList((PerceiverAttention(dim, head_dim, num_heads), feed_forward(dim)))
        for _ in range(depth)
    )


def run_layers(
    layers: nn.ModuleList, hidden_states: torch.Tensor, latents: torch.Tensor
) -> torch.Tensor:
    """latents += attention(hidden_states, latents), latents += feed-forward(latents), a layer."""
    for layer in layers:
        assert isinstance(layer, nn.ModuleList)
        attention, forward = layer[0], layer[1]
        latents = latents + attention(hidden_states, latents)
        latents = latents + forward(latents)
    return latents


class PerceiverResampler(nn.Module):
    """IP-Adapter plus: learned latents look at the encoder's penultimate hidden states.

    Args:
        dim: d.
        embed_dim: E.
        output_dim: C.

    >>> resampler = PerceiverResampler(32, 1, 16, 2, 4, embed_dim=24, output_dim=40)
    >>> resampler(torch.zeros(3, 17, 24)).shape
    torch.Size([3, 4, 40])
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        head_dim: int,
        num_heads: int,
        num_queries: int,
        embed_dim: int,
        output_dim: int,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.latents = nn.Parameter(torch.randn(1, num_queries, dim) / dim**0.5)
        self.proj_in = nn.Linear(embed_dim, dim)
        self.layers = new_layers(dim, depth, head_dim, num_heads)
        self.proj_out = nn.Linear(dim, output_dim)
        self.norm_out = nn.LayerNorm(output_dim)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(N, L, E) -> (N, T, C)."""
        require_shape("hidden_states", hidden_states, ("N", "L", self.embed_dim), "Use its encoder")
        seen = self.proj_in(hidden_states)
        latents = self.latents.to(seen).expand(seen.shape[0], -1, -1)
        latents = run_layers(self.layers, seen, latents)
        tokens: torch.Tensor = self.norm_out(self.proj_out(latents))
        return tokens


class GroundingResampler(nn.Module):
    """MS-Diffusion: the latents of a subject come from its label and its box.

    latents = LayerNorm(MLP([label, Fourier(box)])), or `grounding_latents` where the grounding is
    dropped.

    Args:
        dim: d.
        embed_dim: E.
        output_dim: C.
        label_dim: G.

    >>> resampler = GroundingResampler(32, 1, 16, 2, 4, embed_dim=24, output_dim=40, label_dim=20)
    >>> resampler(torch.zeros(3, 17, 24), torch.zeros(3, 4), torch.zeros(3, 20)).shape
    torch.Size([3, 4, 40])
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        head_dim: int,
        num_heads: int,
        num_queries: int,
        embed_dim: int,
        output_dim: int,
        label_dim: int,
    ) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.label_dim = label_dim
        self.num_queries = num_queries
        self.box_embedder = BoxFourierEmbedder()
        in_dim = label_dim + self.box_embedder.out_dim
        self.latent_proj = nn.Sequential(
            nn.Linear(in_dim, 2 * in_dim), nn.GELU(), nn.Linear(2 * in_dim, num_queries * dim)
        )
        self.latent_norm = nn.LayerNorm(dim)
        self.grounding_latents = nn.Parameter(torch.randn(1, num_queries, dim) / dim**0.5)
        self.proj_in = nn.Linear(embed_dim, dim)
        self.layers = new_layers(dim, depth, head_dim, num_heads)
        self.attention_norm = nn.LayerNorm(dim)
        self.proj_out = nn.Linear(dim, output_dim)
        self.norm_out = nn.LayerNorm(output_dim)

    def forward(
        self,
        hidden_states: torch.Tensor,
        subject_boxes_xyxy: torch.Tensor,
        label_embeds: torch.Tensor,
        grounded: bool = True,
    ) -> torch.Tensor:
        """One picture a subject -> its image tokens.

        Args:
            hidden_states: (N, L, E) of the encoder, its penultimate ones.
            subject_boxes_xyxy: (N, 4) in 0..1 of the generated picture.
            label_embeds: (N, G) of the text encoder, pooled and not projected.
            grounded: False drops boxes and labels.

        Returns:
            (N, T, C)
        """
        count = hidden_states.shape[0]
        require_shape("hidden_states", hidden_states, ("N", "L", self.embed_dim), "Use its encoder")
        require_shape("subject_boxes_xyxy", subject_boxes_xyxy, (count, 4), "Pass a box a subject")
        require_shape("label_embeds", label_embeds, (count, self.label_dim), "Pass one a subject")
        seen = self.proj_in(hidden_states)
        if grounded:
            boxes = self.box_embedder(subject_boxes_xyxy).to(seen)
            grounding = torch.cat((label_embeds.to(seen), boxes), dim=-1)
            latents = self.latent_norm(
                self.latent_proj(grounding).unflatten(-1, (self.num_queries, -1))
            )
        else:
            latents = self.grounding_latents.to(seen).expand(count, -1, -1)
        latents = run_layers(self.layers, seen, latents)
        tokens: torch.Tensor = self.norm_out(self.proj_out(self.attention_norm(latents)))
        return tokens
