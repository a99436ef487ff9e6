# Shapes: B batch, N subject slots, P patch tokens a subject, C patch width, T = N*P grounding
# tokens, F frequencies.
"""Grounding tokens: what the adapters see of each subject (patch features and box)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from .adapter_options import AdapterOptions
from .box_fourier import BoxFourierEmbedder, patch_boxes_xyxy
from .errors import require_shape
from .layer_norm_mlp import LayerNormMlp

NullRule = Literal["learned", "zeros"]


class GroundingNet(nn.Module):
    """Patch tokens and boxes of all subjects -> one sequence of grounding tokens
    (Subject-Diffusion, eq. 1).

    Every patch token is concatenated with the Fourier features of its subject's box and goes
    through one MLP. An empty slot uses a learned null image feature and a learned null position
    feature instead.

    Args:
        patch_dim: C, width of a patch token (1280 for ViT-H/14).
        out_dim: width of a grounding token, the `context_dim` of the adapters.
        hidden_dim: width of the MLP's hidden layer.
        num_patches: P.
        num_freqs, temperature: see `BoxFourierEmbedder`.
        box_coordinates: concatenate the features of the subject's box (the paper's choice).
        patch_positions: concatenate, after them, the features of the box of the patch itself (ours;
            P square).
        token_positions: append the features of the box of the patch itself to the finished token,
            zeros for an empty slot (ours; P square; see `GatedSelfAttention`).
    """

    def __init__(
        self,
        patch_dim: int,
        out_dim: int,
        hidden_dim: int,
        num_patches: int,
        num_freqs: int = 8,
        temperature: float = 100.0,
        box_coordinates: bool = True,
        patch_positions: bool = False,
        token_positions: bool = False,
    ) -> None:
        super().__init__()
        self.patch_dim = patch_dim
        self.out_dim = out_dim
        self.num_patches = num_patches
        self.box_coordinates = box_coordinates
        self.patch_positions = patch_positions
        self.token_positions = token_positions
        self.box_embedder = BoxFourierEmbedder(num_freqs, temperature)
        position_dim = self.box_embedder.out_dim * (int(box_coordinates) + int(patch_positions))
        self.linears_image = LayerNormMlp(patch_dim + position_dim, hidden_dim, out_dim)
        self.null_image_feature = nn.Parameter(torch.randn(1, 1, num_patches, patch_dim) * 0.02)
        self.null_position_feature = nn.Parameter(
            torch.randn(1, 1, num_patches, position_dim) * 0.02
        )

    @classmethod
    def from_options(
        cls, options: AdapterOptions, *, patch_dim: int, num_patches: int, out_dim: int
    ) -> GroundingNet:
        """The net of an adapter with these options, untrained."""
        return cls(
            patch_dim=patch_dim,
            out_dim=out_dim,
            hidden_dim=options.grounding_hidden_dim,
            num_patches=num_patches,
            num_freqs=options.num_freqs,
            temperature=options.temperature,
            box_coordinates=options.box_coordinates,
            patch_positions=options.patch_positions,
            token_positions=options.token_positions,
        )

    def forward(
        self,
        patch_embeds: torch.Tensor,
        subject_valid: torch.Tensor,
        subject_boxes_xyxy: torch.Tensor,
        *,
        use_boxes: bool = True,
    ) -> torch.Tensor:
        """Make the grounding tokens.

        Args:
            patch_embeds: (B, N, P, C) patch tokens before the encoder's last norm; ignored in empty
                slots.
            subject_valid: (B, N) bool, True where the slot holds a subject.
            subject_boxes_xyxy: (B, N, 4) in 0..1 of the generated image; ignored in empty slots.
            use_boxes: False leaves everything out that the tokens say of places, the paper's
                ablation (d): the null position feature takes the place of all position features,
                and the columns of token_positions are zeros, both as in an empty slot.

        Returns:
            (B, N*P, out_dim), subject after subject, in the dtype of the parameters; 8F columns
            more with token_positions.
        """
        self._check_inputs(patch_embeds, subject_valid, subject_boxes_xyxy)
        dtype = self.null_image_feature.dtype
        valid = subject_valid.bool()[:, :, None, None]
        positions = self._position_features(subject_boxes_xyxy).to(dtype)
        # torch.where, not a product: an empty slot may hold anything, even NaN
        image_part = torch.where(valid, patch_embeds.to(dtype), self.null_image_feature)
        placed = valid if use_boxes else torch.zeros_like(valid)
        position_part = torch.where(placed, positions, self.null_position_feature)
        tokens: torch.Tensor = self.linears_image(torch.cat((image_part, position_part), dim=-1))
        if self.token_positions:
            own = self._patch_features(subject_boxes_xyxy).to(dtype)
            tokens = torch.cat((tokens, own.where(placed, own.new_zeros(()))), dim=-1)
        return tokens.flatten(1, 2)

    def null_tokens(self, num_subjects: int, null_rule: NullRule = "learned") -> torch.Tensor:
        """Grounding tokens of "no subject", for the unconditional branch.

        Args:
            num_subjects: number of slots, all empty.
            null_rule: "learned" sends the null features through the MLP, as in training; "zeros"
                gives zeros after the MLP, as the reference code does when it samples.

        Returns:
            (1, num_subjects * P, out_dim); 8F columns more with token_positions.
        """
        reference = self.null_image_feature
        width = self.out_dim + self.token_positions * self.box_embedder.out_dim
        if null_rule == "zeros":
            return reference.new_zeros(1, num_subjects * self.num_patches, width)
        null_features = torch.cat((self.null_image_feature, self.null_position_feature), dim=-1)
        tokens: torch.Tensor = self.linears_image(null_features)
        tokens = functional.pad(tokens, (0, width - self.out_dim))
        return tokens.expand(-1, num_subjects, -1, -1).flatten(1, 2)

    def _position_features(self, subject_boxes_xyxy: torch.Tensor) -> torch.Tensor:
        parts = []
        if self.box_coordinates:
            subject_features = self.box_embedder(subject_boxes_xyxy).unsqueeze(2)
            parts.append(subject_features.expand(-1, -1, self.num_patches, -1))
        if self.patch_positions:
            parts.append(self._patch_features(subject_boxes_xyxy))
        if not parts:
            batch, slots = subject_boxes_xyxy.shape[:2]
            return subject_boxes_xyxy.new_zeros(batch, slots, self.num_patches, 0)
        return torch.cat(parts, dim=-1)

    def _patch_features(self, subject_boxes_xyxy: torch.Tensor) -> torch.Tensor:
        """(B, N, P, 8F): features of the box that each patch fills in the generated image."""
        features: torch.Tensor = self.box_embedder(
            patch_boxes_xyxy(subject_boxes_xyxy, self.num_patches)
        )
        return features

    def _check_inputs(
        self, patch_embeds: torch.Tensor, valid: torch.Tensor, boxes: torch.Tensor
    ) -> None:
        require_shape(
            "patch_embeds",
            patch_embeds,
            ("B", "N", self.num_patches, self.patch_dim),
            "Use the vision encoder the checkpoint was trained with",
        )
        batch, slots = patch_embeds.shape[:2]
        require_shape("subject_valid", valid, (batch, slots), "Pass one flag per subject slot")
        require_shape("subject_boxes_xyxy", boxes, (batch, slots, 4), "Pass one box per slot")


def subject_strength_bias(subject_strengths: torch.Tensor, num_patches: int) -> torch.Tensor:
    """A subject's own strength as a bias on the attention logits of its columns: log(strength).

    Scaling the tokens would have almost no effect, because the adapter's layer norm removes the
    scale.

    Args:
        subject_strengths: (B, N), 0 or more; 1 changes nothing, 0 removes the subject (-inf).
        num_patches: P.

    Returns:
        (B, N*P) for `GatedSelfAttention.forward(token_bias=...)`.

    >>> subject_strength_bias(torch.tensor([[1.0, 0.0]]), 2)
    tensor([[0., 0., -inf, -inf]])
    """
    require_shape("subject_strengths", subject_strengths, ("B", "N"), "Pass one number a subject")
    if bool((subject_strengths < 0).any()):
        lowest = float(subject_strengths.min())
        raise ValueError(
            f"subject_strengths: expected numbers of 0 or more, got {lowest:g}. "
            "Use 0 to remove a subject."
        )
    return subject_strengths.float().log().repeat_interleave(num_patches, dim=1)
