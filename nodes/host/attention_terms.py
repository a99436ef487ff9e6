# Shapes: B samples of a UNet call, Q latent positions, L keys, H heads, K width of a head.
"""Changes of a UNet's own attention, without taking any of ComfyUI's single slots.

A patch in front of the attention layer marks it, an override of the attention function hands the
layer's queries, keys and values to the caller's function, a patch behind it clears the mark. What
computes the attention stays whatever it was: the override that was there before, or the function
that the user chose. There are two forms:

- around: out = to_out(around(q, k, v, proceed)), where `proceed` computes an attention. It may be
  called with other keys, with a mask, or several times. Where another node has replaced the layer's
  attention, no override is called, and the layer stays as that node made it.
- term: out = to_out(Attention(q, k, v) + term(q, k, v)). Where another node has replaced the
  layer's attention, the patch behind it adds the term.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import comfy.model_patcher
import comfy.patcher_extension
import torch

from .comfy_types import Attention, Control, Executor, Model, Options, Unet
from .unet_geometry import Location, location_of_block, transformer_block_at

OVERRIDE = "optimized_attention_override"
WRAPPER_KIND = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL


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
        split: torch.Tensor = states.unflatten(-1, (self.num_heads, -1))
        return split.transpose(1, 2)


class Proceed(Protocol):
    """The attention function below: the user's, inside of the overrides that were there."""

    def __call__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, Q, H*K) of query (B, Q, H*K), key and value (B, L, H*K); the mask, broadcast to
        (B, H, Q, L), is added to the logits."""


# Gives the layer's attention, (B, Q, H*K).
AttentionAround = Callable[[AttentionCall, Proceed], torch.Tensor]
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
        self,
        unet: Unet,
        around: AttentionAround,
        previous: Callable[..., torch.Tensor] | None,
    ) -> None:
        self.unet = unet
        self._around = around
        self.previous = previous
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

        def proceed(
            query: torch.Tensor,
            key: torch.Tensor,
            value: torch.Tensor,
            mask: torch.Tensor | None = None,
        ) -> torch.Tensor:
            inputs = (query, key, value, heads, *args)
            masked = kwargs if mask is None else {**kwargs, "mask": mask}
            if self.previous is None:
                return function(*inputs, **masked)
            return self.previous(function, *inputs, **masked)

        layer = self.take()
        if layer is None:
            return proceed(query, key, value)
        return self._around(_call_of(layer, query, key, value, heads), proceed)


def attach_attention_around(
    model: Model, key: str, kind: Literal["attn1", "attn2"], around: AttentionAround
) -> None:
    """Put `around` around every self-attention ("attn1") or cross-attention ("attn2") of a MODEL.

    Args:
        key: of the caller; what is attached under several keys is called one inside the other.
    """
    _attach(model, key, kind, around, None)


def with_attention_around(
    model_options: Options, key: str, kind: Literal["attn1", "attn2"], around: AttentionAround
) -> Options:
    """A copy of a run's options with `around` around every attention layer of this kind: for model
    calls of a sampler that others do not share."""
    hooks = _Hooks(key, kind, around, None)
    options: Options = comfy.model_patcher.create_model_options_clone(model_options)
    transformer_options = dict(options.get("transformer_options", {}))
    patches = dict(transformer_options.get("patches", {}))
    for name, patch in hooks.patches.items():
        patches[name] = [*patches.get(name, []), patch]
    wrappers = dict(transformer_options.get("wrappers", {}))
    wrappers[WRAPPER_KIND] = {**wrappers.get(WRAPPER_KIND, {}), key: [hooks.diffusion_model]}
    options["transformer_options"] = {
        **transformer_options,
        "patches": patches,
        "wrappers": wrappers,
    }
    return options


def attach_attention_term(
    model: Model, key: str, kind: Literal["attn1", "attn2"], term: AttentionTerm
) -> None:
    """Add a term to every self-attention ("attn1") or cross-attention ("attn2") layer of a MODEL.

    Args:
        key: of the caller; terms under several keys add up.
    """

    def around(call: AttentionCall, proceed: Proceed) -> torch.Tensor:
        attended = proceed(call.query, call.key, call.value)
        added = term(call)
        return attended if added is None else attended + added

    _attach(model, key, kind, around, term)


def override_of_others(options: Options) -> Callable[..., torch.Tensor] | None:
    """The override of the attention function that another node or pack put into the options."""
    override: Callable[..., torch.Tensor] | None = options.get(OVERRIDE)
    while isinstance(mark := getattr(override, "__self__", None), _Mark):
        override = mark.previous
    return override


def _attach(
    model: Model,
    key: str,
    kind: Literal["attn1", "attn2"],
    around: AttentionAround,
    term_behind: AttentionTerm | None,
) -> None:
    hooks = _Hooks(key, kind, around, term_behind)
    model.add_wrapper_with_key(WRAPPER_KIND, key, hooks.diffusion_model)
    for name, patch in hooks.patches.items():
        model.set_model_patch(patch, name)


class _Hooks:
    """What ComfyUI calls around the UNet and around each of its attention layers of one kind.

    Args:
        term_behind: added to layers whose attention another node replaced.
    """

    def __init__(
        self,
        key: str,
        kind: Literal["attn1", "attn2"],
        around: AttentionAround,
        term_behind: AttentionTerm | None,
    ) -> None:
        self._key, self._kind = key, kind
        self._around, self._term_behind = around, term_behind

    @property
    def patches(self) -> dict[str, Callable[..., Any]]:
        return {f"{self._kind}_patch": self._before, f"{self._kind}_output_patch": self._behind}

    def diffusion_model(
        self,
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
        mark = _Mark(executor.class_obj, self._around, options.get(OVERRIDE))
        options |= {self._key: mark, OVERRIDE: mark.override}
        return executor(x, timesteps, context, y, control, options, **kwargs)

    def _before(
        self,
        query_states: torch.Tensor,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        extra_options: Options,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        mark, location = extra_options.get(self._key), location_of_block(extra_options)
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

    def _behind(self, out: torch.Tensor, extra_options: Options) -> torch.Tensor:
        mark = extra_options.get(self._key)
        layer = None if mark is None else mark.take()
        if mark is None or layer is None or self._term_behind is None:
            return out
        block = transformer_block_at(mark.unet, layer.location)
        return _with_term(layer, getattr(block, self._kind), self._term_behind, out)


def _with_term(
    layer: _Layer, attention: Attention, term: AttentionTerm, out: torch.Tensor
) -> torch.Tensor:
    """The output (B, Q, d) of a layer whose attention another node replaced, with the term."""
    call = _call_of(
        layer,
        attention.to_q(layer.query_states),
        attention.to_k(layer.key_states),
        attention.to_v(layer.value_states),
        attention.heads,
    )
    added = term(call)
    if added is None:
        return out
    bias = attention.to_out(added.new_zeros(1, 1, added.shape[-1]))
    projected: torch.Tensor = attention.to_out(added)
    return out + (projected - bias)


def _call_of(
    layer: _Layer, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, heads: int
) -> AttentionCall:
    return AttentionCall(
        location=layer.location,
        options=layer.options,
        query=query,
        key=key,
        value=value,
        num_heads=heads,
    )
