"""The training side of Subject-Diffusion: diffusers' UNet, transformers' text encoder, our modules.

# Shapes: B batch, N subject slots, P patch tokens, L text tokens, C latent channels, h x w latents,
# Q = h*w latent positions of a layer, D cross-attention width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from subject_diffusion_core.adapter_options import AdapterOptions
from subject_diffusion_core.box_fourier import BoxFourierEmbedder, cell_position_features
from subject_diffusion_core.gated_attention import CachedGroundingTokens, GatedSelfAttention
from subject_diffusion_core.grounding import GroundingNet
from subject_diffusion_core.text_fusion import ImageEmbedProjector, fuse_placeholder_embeddings

from ...bases.vision import VisionShape
from ...networks.text import encode_text
from ..conditioning import Conditioning


@dataclass
class GroundingContext:
    """What an adapter needs besides the hidden states; travels in diffusers' ``objs`` argument.

    ``cached``: keys and values by adapter, filled on first use; None computes them at every call.
    """

    tokens: Tensor
    adapter_scale: Tensor | float
    query_positions: dict[int, Tensor]
    cached: dict[ContextAdapter, CachedGroundingTokens] | None = None

    def tokens_for(self, adapter: ContextAdapter) -> Tensor | CachedGroundingTokens:
        """What the adapter attends to."""
        if self.cached is None:
            return self.tokens
        if adapter not in self.cached:
            self.cached[adapter] = adapter.cache_tokens(self.tokens)
        return self.cached[adapter]


@dataclass(frozen=True, kw_only=True)
class PreparedConditioning:
    """What does not change from one sampling step to the next."""

    text_states: Tensor
    grounding: GroundingContext
    location_mask: Tensor


class ContextAdapter(GatedSelfAttention):
    """The adapter as diffusers' block calls it: ``fuser(hidden_states, objs)``."""

    def forward(self, hidden_states: Tensor, objs: GroundingContext) -> Tensor:  # type: ignore[override]
        return super().forward(
            hidden_states,
            objs.tokens_for(self),
            adapter_scale=objs.adapter_scale,
            query_positions=objs.query_positions.get(hidden_states.shape[1]),
        )


class ContextPositionNet(nn.Module):
    """diffusers' ``position_net``: the grounding net plus what travels beside its tokens."""

    def __init__(self, net: GroundingNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, context: GroundingContext) -> GroundingContext:
        """diffusers calls it in the UNet; the tokens are there already."""
        return context


@dataclass(frozen=True, kw_only=True)
class AdapterShape(AdapterOptions, VisionShape):
    """Options of the Subject-Diffusion modules, sizes of their image encoder, and how they start.

    ``heads``: number and width of an adapter's heads by the width of its block; blocks of other
    widths take those of their own self-attention.
    ``adapter`` False leaves the gated layers out of the computation, ``image_cls`` False leaves the
    placeholders' own embeddings in the text (the paper's ablations e and g).
    """

    adapter: bool = True
    image_cls: bool = True
    initial_alpha_attn: float = 0.0
    initial_alpha_dense: float = 0.0
    heads: Mapping[int, tuple[int, int]] = field(default_factory=dict)


class SubjectDiffusionModel(nn.Module):
    """UNet with adapters, text encoder with fusion, grounding net and projector in one module."""

    def __init__(
        self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, shape: AdapterShape
    ) -> None:
        super().__init__()
        context_dim = unet.config["cross_attention_dim"]
        self.shape = shape
        self.unet = unet
        self.text_encoder = text_encoder
        self.mlp = ImageEmbedProjector(
            shape.image_embed_dim, shape.projector_hidden_dim, text_encoder.config.hidden_size
        )
        grounding = GroundingNet.from_options(
            shape,
            patch_dim=shape.patch_dim,
            num_patches=shape.num_patches,
            out_dim=context_dim,
        )
        unet.register_module("position_net", ContextPositionNet(grounding))
        install_adapters(unet, shape)
        self._query_positions: dict[tuple[int, int], dict[int, Tensor]] = {}

    @property
    def grounding(self) -> GroundingNet:
        """The grounding net inside the UNet's ``position_net``."""
        net = self.unet.get_submodule("position_net.net")
        assert isinstance(net, GroundingNet)
        return net

    def query_positions(self, height: int, width: int) -> dict[int, Tensor]:
        """Position features of every layer's cells, keyed by the layer's number of positions."""
        if not self.shape.query_positions:
            return {}
        if (height, width) not in self._query_positions:
            embedder = BoxFourierEmbedder(self.shape.num_freqs, self.shape.temperature)
            levels = len(self.unet.config["block_out_channels"])
            sizes = [(height >> level, width >> level) for level in range(levels)]
            self._query_positions[height, width] = {
                h * w: cell_position_features(h, w, embedder) for h, w in sizes
            }
        return self._query_positions[height, width]

    def encode(self, conditioning: Conditioning) -> Tensor:
        """Fused text states (B, L, D) of the conditioning."""
        if not self.shape.image_cls or conditioning.image_embeds is None:
            return encode_text(self.text_encoder, conditioning.token_ids)
        projected = self.mlp(conditioning.image_embeds)

        def fuse(token_embeds: Tensor) -> Tensor:
            return fuse_placeholder_embeddings(
                token_embeds,
                projected.to(token_embeds.dtype),
                conditioning.placeholder_positions,
                conditioning.text_valid,
            )

        return encode_text(self.text_encoder, conditioning.token_ids, fuse)

    def prepare(self, conditioning: Conditioning, cache: bool = False) -> PreparedConditioning:
        """Text states and grounding tokens; ``cache`` also keeps the adapters' keys and values."""
        mask = conditioning.location_mask
        if not self.shape.location_control:
            mask = torch.zeros_like(mask)
        tokens: Tensor = mask.new_zeros(len(mask), 0, self.grounding.out_dim)
        scale: Tensor | float = 0.0
        if self.shape.adapter and conditioning.patch_embeds is not None:
            scale = conditioning.adapter_scale
            tokens = self.grounding(
                conditioning.patch_embeds,
                conditioning.subject_valid,
                conditioning.subject_boxes_xyxy,
            )
        context = GroundingContext(
            tokens,
            scale,
            {q: f.to(mask) for q, f in self.query_positions(*mask.shape[-2:]).items()},
            {} if cache else None,
        )
        return PreparedConditioning(
            text_states=self.encode(conditioning), grounding=context, location_mask=mask
        )

    def forward(
        self,
        noisy_latents: Tensor,
        timesteps: Tensor,
        conditioning: Conditioning | PreparedConditioning,
    ) -> Tensor:
        """Prediction (B, C, h, w) for ``noisy_latents`` (B, C, h, w) and ``timesteps`` (B,)."""
        if isinstance(conditioning, Conditioning):
            conditioning = self.prepare(conditioning)
        sample = torch.cat([noisy_latents, conditioning.location_mask], dim=1)
        grounding = {"context": conditioning.grounding}
        prediction: Tensor = self.unet(
            sample,
            timesteps,
            conditioning.text_states,
            cross_attention_kwargs={"gligen": grounding},
        ).sample
        return prediction


def install_adapters(unet: UNet2DConditionModel, shape: AdapterShape) -> None:
    """Replace diffusers' fusers by core's adapters (same parameter names, fewer computations)."""
    for module in unet.modules():
        if not isinstance(module, BasicTransformerBlock):
            continue
        attention = module.fuser.attn
        width = attention.query_dim
        num_heads, head_dim = shape.heads.get(
            width, (attention.heads, attention.inner_dim // attention.heads)
        )
        adapter = ContextAdapter.from_options(
            shape,
            query_dim=width,
            context_dim=module.fuser.linear.in_features,
            num_heads=num_heads,
            head_dim=head_dim,
        )
        nn.init.constant_(adapter.alpha_attn, shape.initial_alpha_attn)
        nn.init.constant_(adapter.alpha_dense, shape.initial_alpha_dense)
        module.register_module("fuser", adapter)


def build_unet(arguments: dict[str, Any], latent_channels: int) -> UNet2DConditionModel:
    """A gated UNet with one more input channel, the location mask's; its kernel starts at zero."""
    unet: UNet2DConditionModel = UNet2DConditionModel(
        **arguments,
        in_channels=latent_channels + 1,
        out_channels=latent_channels,
        attention_type="gated",
    )
    with torch.no_grad():
        unet.conv_in.weight[:, latent_channels:] = 0
    return unet
