"""IP-Adapter plus and MS-Diffusion in training: a frozen base, and what an adapter's file holds.

# Shapes: B batch, N subject slots, P patch tokens, L = 1 + P tokens of a picture, E their width, T
# image tokens of a subject, C their width, H heads, Q = h*w cells of a layer, K width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel

from subject_diffusion_core.files.ip_attention_file import GROUNDED, PLUS, SCALES
from subject_diffusion_core.ip_attention import (
    GroundingResampler,
    PerceiverResampler,
    box_cells,
    joint_image_attention,
)
from subject_diffusion_core.location_mask import box_coverage
from subject_diffusion_core.losses import latent_size

from ...networks.text import encode_text
from ..conditioning import Conditioning

GROUNDING_DROPPED = 0.1  # share of MS-Diffusion's steps whose tokens know neither box nor label


class ImagePair(nn.Module):
    """Keys and values of image tokens in one layer; they start as the text's."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        width, context_dim = attention.to_k.weight.shape
        self.to_k_ip = nn.Linear(context_dim, width, bias=False)
        self.to_v_ip = nn.Linear(context_dim, width, bias=False)
        self.to_k_ip.load_state_dict(attention.to_k.state_dict())
        self.to_v_ip.load_state_dict(attention.to_v.state_dict())


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownSubjects:
    """A batch's subjects as every layer sees them.

    Attributes:
        tokens: (B, N, T, C), zeros where a slot shows nothing. shown: (B, N) bool.
        boxes_xyxy: (B, N, 4) in 0..1. latent_size: h and w.
    """

    tokens: Tensor
    shown: Tensor
    boxes_xyxy: Tensor
    latent_size: tuple[int, int]


class ImageAttentionModel(nn.Module):
    """UNet and text encoder as the base has them; resampler and pairs are the adapter.

    Args:
        absent: (L, E), what stands for a picture where a sample's pictures are dropped
            (IP-Adapter); None shows nothing there (MS-Diffusion).
    """

    absent: Tensor | None

    def __init__(
        self,
        unet: UNet2DConditionModel,
        text_encoder: CLIPTextModel,
        resampler: PerceiverResampler | GroundingResampler,
        absent: Tensor | None,
    ) -> None:
        super().__init__()
        self.unet, self.text_encoder, self.image_proj = unet, text_encoder, resampler
        self.register_buffer("absent", absent, persistent=False)
        # makers number all attention layers, in diffusers' order; every second is cross-attention
        layers = [name.removesuffix(".processor") for name in unet.attn_processors]
        numbers = {name: n for n, name in enumerate(layers) if name.endswith(".attn2")}
        self.pairs = nn.ModuleDict(
            {
                str(n): ImagePair(cast(Attention, unet.get_submodule(name)))
                for name, n in numbers.items()
            }
        )
        self._number_of = {unet.get_submodule(name): str(n) for name, n in numbers.items()}

    @property
    def kind(self) -> str:
        """As files name it."""
        return GROUNDED if isinstance(self.image_proj, GroundingResampler) else PLUS

    def forward(
        self, noisy_latents: Tensor, timesteps: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Prediction (B, C, h, w) for ``noisy_latents`` (B, C, h, w) and ``timesteps`` (B,)."""
        subjects = self.show(conditioning, *noisy_latents.shape[-2:])

        def image_term(layer: Attention, query: Tensor) -> Tensor:
            return self.attend(layer, query, subjects)

        predicted: Tensor = self.unet(
            noisy_latents,
            timesteps,
            self.encode(conditioning),
            cross_attention_kwargs={"image_term": image_term},
        ).sample
        return predicted

    def encode(self, conditioning: Conditioning) -> Tensor:
        """Text states (B, 77, C) of the plain prompt."""
        return encode_text(self.text_encoder, conditioning.token_ids)

    def show(self, conditioning: Conditioning, height: int, width: int) -> ShownSubjects:
        """The image tokens of all subjects that take part."""
        boxes, patches = conditioning.subject_boxes_xyxy, conditioning.patch_embeds
        assert patches is not None
        states = torch.cat((patches.mean(dim=2, keepdim=True), patches), dim=2)
        shown = conditioning.subject_valid & (conditioning.adapter_scale.flatten(1) > 0)
        if self.absent is not None:
            has_place = boxes[..., 2] > boxes[..., 0]
            states = torch.where(shown[..., None, None], states, self.absent.to(states))
            shown = has_place & (conditioning.adapter_scale.flatten(1) > 0)
        computed = shown.clone()
        computed[0, 0] |= not bool(shown.any())  # gradients need at least one, even of no effect
        made = self.resample(states[computed], boxes[computed], conditioning, computed)
        tokens = made.new_zeros(*shown.shape, *made.shape[1:])
        tokens[computed] = made
        return ShownSubjects(
            tokens=tokens, shown=shown, boxes_xyxy=boxes, latent_size=(height, width)
        )

    def resample(
        self, states: Tensor, boxes_xyxy: Tensor, conditioning: Conditioning, computed: Tensor
    ) -> Tensor:
        """(S, L, E) of the S subjects that are to be ``computed`` -> (S, T, C)."""
        if isinstance(self.image_proj, PerceiverResampler):
            tokens: Tensor = self.image_proj(states)
            return tokens
        assert conditioning.label_token_ids is not None
        labels = self.text_encoder(input_ids=conditioning.label_token_ids[computed]).pooler_output
        grounded = not self.training or float(torch.rand(())) >= GROUNDING_DROPPED
        tokens = self.image_proj(states, boxes_xyxy, labels, grounded=grounded)
        return tokens

    def attend(self, layer: Attention, query: Tensor, subjects: ShownSubjects) -> Tensor:
        """What a cross-attention layer adds to its text's (B, H, Q, K), for the query (B, H, Q, K);
        the nodes' term with every strength 1."""
        pair = cast(ImagePair, self.pairs[self._number_of[layer]])
        key, value = (
            project(subjects.tokens.flatten(1, 2)).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
            for project in (pair.to_k_ip, pair.to_v_ip)
        )
        size = latent_size(query.shape[2], *subjects.latent_size)
        scale = SCALES.get(self.kind, 1.0)
        boxes, shown = subjects.boxes_xyxy, subjects.shown[..., None]
        if self.kind == GROUNDED:
            cells = box_cells(boxes.flatten(0, 1), *size).unflatten(0, boxes.shape[:2]) & shown
            scales = boxes.new_full(boxes.shape[1:2], scale)
            return joint_image_attention(query, key, value, cells, scales)
        places = (scale * box_coverage(boxes, *size).flatten(2) * shown).to(query)
        parts = zip(key.chunk(len(places[0]), 2), value.chunk(len(places[0]), 2), strict=True)
        terms = [
            places[:, None, slot, :, None] * F.scaled_dot_product_attention(query, *part)
            for slot, part in enumerate(parts)
        ]
        return torch.stack(terms).sum(dim=0)
