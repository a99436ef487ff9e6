# Shapes: B samples of a UNet call, Q latent positions, L keys, H heads, K width of a head.
"""Further terms beside a UNet's own attention, without taking any of ComfyUI's single slots.

out = to_out(Attention(q, k, v) + term(q, k, v)): a patch in front of the attention layer marks it,
an override of the attention function computes the layer's own attention (by whatever override was
there before, or by the function that the user chose) and adds the term, a patch behind it clears
the mark. Where another node has replaced the layer's attention, no override is called: there the
patch behind it adds the term.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import comfy.patcher_extension
import torch

from .comfy_types import Attention, Control, Executor, Model, Options, Unet
from .unet_geometry import Location, location_of_block, transformer_block_at

OVERRIDE = "optimized_attention_override"


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionCall:
    """One attention layer at work.

    Attributes:
        location: of its transformer block.
        options: `extra_options` as ComfyUI's patches get them.
        query: (B, Q, H*K) after to_q.
        key, value: (B, L, H*K) after to_k and to_v.
        num_heads: H.
    """

    location: Location
    options: Options
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    num_heads: int

    def split_heads(self, states: torch.Tensor) -> torch.Tensor:
        """(B, L, H*K) -> (B, H, L, K)."""
        split: torch.Tensor = states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return split


# (B, Q, H*K) to add to the layer's attention, or None for a term that only looks.
AttentionTerm = Callable[[AttentionCall], torch.Tensor | None]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """A layer that is about to attend, and what its queries, keys and values are made of."""

    location: Location
    options: Options
    query_states: torch.Tensor
    key_states: torch.Tensor
    value_states: torch.Tensor


class _Mark:
    """Which layer of a UNet call attends next; lives as long as the call, in its options."""

    def __init__(
        self, unet: Unet, term: AttentionTerm, previous: Callable[..., torch.Tensor] | None
    ) -> None:
        self.unet = unet
        self._term = term
        self._previous = previous
        self._layer: _Layer | None = None

    def set(self, layer: _Layer) -> None:
        self._layer = layer

    def take(self) -> _Layer | None:
        layer, self._layer = self._layer, None
        return layer

    def override(
        self,
        function: Callable[..., torch.Tensor],
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        heads: int,
        *args: object,
        **kwargs: object,
    ) -> torch.Tensor:
        """ComfyUI calls this in place of `function`, at every attention of the UNet."""
        layer = self.take()
        inputs = (query, key, value, heads, *args)
        if self._previous is None:
            attended = function(*inputs, **kwargs)
        else:
            attended = self._previous(function, *inputs, **kwargs)
        if layer is None:
            return attended
        term = self._evaluate(layer, query, key, value, heads)
        return attended if term is None else attended + term

    def behind_replaced(
        self, layer: _Layer, attention: Attention, out: torch.Tensor
    ) -> torch.Tensor:
        """The output (B, Q, d) of a layer whose attention another node replaced, with the term."""
        term = self._evaluate(
            layer,
            attention.to_q(layer.query_states),
            attention.to_k(layer.key_states),
            attention.to_v(layer.value_states),
            attention.heads,
        )
        if term is None:
            return out
        bias = attention.to_out(term.new_zeros(1, 1, term.shape[-1]))
        projected = attention.to_out(term)
        return out + (projected - bias)

    def _evaluate(
        self,
        layer: _Layer,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        heads: int,
    ) -> torch.Tensor | None:
        return self._term(
            AttentionCall(
                location=layer.location,
                options=layer.options,
                query=query,
                key=key,
                value=value,
                num_heads=heads,
            )
        )


def attach_attention_term(
    model: Model,
    key: str,
    kind: Literal["attn1", "attn2"],
    term: AttentionTerm,
) -> None:
    """Add a term to every self-attention ("attn1") or cross-attention ("attn2") layer of a MODEL.

    Args:
        key: of the caller; terms under several keys add up.
    """

    def diffusion_model(
        executor: Executor,
        x: torch.Tensor,
        timesteps: torch.Tensor | None = None,
        context: torch.Tensor | None = None,
        y: torch.Tensor | None = None,
        control: Control | None = None,
        transformer_options: Options | None = None,
        **kwargs: object,
    ) -> torch.Tensor:
        options = dict(transformer_options or {})
        mark = _Mark(executor.class_obj, term, options.get(OVERRIDE))
        options |= {key: mark, OVERRIDE: mark.override}
        return executor(x, timesteps, context, y, control, options, **kwargs)

    def before(
        query_states: torch.Tensor,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        extra_options: Options,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mark, location = extra_options.get(key), location_of_block(extra_options)
        if mark is not None and location is not None:
            mark.set(
                _Layer(
                    location=location,
                    options=extra_options,
                    query_states=query_states,
                    key_states=key_states,
                    value_states=value_states,
                )
            )
        return query_states, key_states, value_states

    def behind(out: torch.Tensor, extra_options: Options) -> torch.Tensor:
        mark = extra_options.get(key)
        layer = None if mark is None else mark.take()
        if mark is None or layer is None:
            return out
        block = transformer_block_at(mark.unet, layer.location)
        with_term: torch.Tensor = mark.behind_replaced(layer, getattr(block, kind), out)
        return with_term

    wrapper_kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
    model.add_wrapper_with_key(wrapper_kind, key, diffusion_model)
    model.set_model_patch(before, f"{kind}_patch")
    model.set_model_patch(behind, f"{kind}_output_patch")
