# Shapes: B batch, N subject slots, L text tokens, D text width.
"""Fusing each subject's image embedding into the text, in place of the placeholder's."""

from __future__ import annotations

import torch

from .errors import require_shape
from .layer_norm_mlp import LayerNormMlp


class ImageEmbedProjector(LayerNormMlp):
    """From an image embedding to a token embedding: (..., in_dim) -> (..., out_dim).

    The reference calls this module `mlp`; on SD2 it is 1024 -> 1024 -> 1024 on ViT-H's projected
    CLS vector.
    """


def fuse_placeholder_embeddings(
    token_embeds: torch.Tensor,
    projected: torch.Tensor,
    placeholder_positions: torch.Tensor,
    subject_valid: torch.Tensor,
) -> torch.Tensor:
    """Replace the placeholder's token embedding of every valid subject by its projected image
    embedding.

    To be applied before the position embeddings are added; the whole text encoder runs afterwards.

    Args:
        token_embeds: (B, L, D) output of the token embedding table.
        projected: (B, N, D) output of `ImageEmbedProjector`.
        placeholder_positions: (B, N) long, index in 0..L-1; ignored where the slot is empty.
        subject_valid: (B, N) bool.

    Returns:
        (B, L, D) a new tensor, in the dtype of `token_embeds`.

    >>> fused = fuse_placeholder_embeddings(
    ...     torch.zeros(1, 3, 2), torch.ones(1, 1, 2), torch.tensor([[1]]), torch.tensor([[True]])
    ... )
    >>> fused[0, :, 0]
    tensor([0., 1., 0.])
    """
    require_shape("token_embeds", token_embeds, ("B", "L", "D"), "Embed the token ids first")
    batch, length, width = token_embeds.shape
    require_shape("projected", projected, (batch, "N", width), "Use the projector of this base")
    slots = projected.shape[1]
    action = "Pass one entry per subject slot"
    require_shape("placeholder_positions", placeholder_positions, (batch, slots), action)
    require_shape("subject_valid", subject_valid, (batch, slots), action)
    rows, columns = subject_valid.bool().nonzero(as_tuple=True)
    positions = placeholder_positions[rows, columns]
    if bool(((positions < 0) | (positions >= length)).any()):
        raise ValueError(
            f"placeholder_positions: expected 0 to {length - 1} for every valid subject, got "
            f"{positions.tolist()}. Shorten the prompt so that no placeholder is cut off."
        )
    fused = token_embeds.clone()
    fused[rows, positions] = projected[rows, columns].to(token_embeds.dtype)
    return fused


def blend_towards_label(
    projected: torch.Tensor, label_embeds: torch.Tensor, strength: float
) -> torch.Tensor:
    """A subject's own strength in the text: its placeholder moves towards its label's token
    embedding.

    Args:
        projected: (..., D) projected image embedding.
        label_embeds: (..., D) token embedding of the label's last token.
        strength: 1 keeps the image embedding, 0 gives the label's; above 1 extrapolates.

    Returns:
        (..., D).

    >>> blend_towards_label(torch.tensor([2.0]), torch.tensor([1.0]), 0.25)
    tensor([1.2500])
    """
    return torch.lerp(label_embeds.to(projected), projected, strength)
