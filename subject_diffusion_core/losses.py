# Shapes: B batch, H heads, Q = h*w latent positions of a layer, N subject slots, H_i, W_i size of a
# segmentation.
"""The cross-attention map loss: each subject's tokens attend to its own region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

from .area_resize import area_resize
from .errors import ShapeError, require_shape

MapLossKind = Literal["balanced_l1", "l1"]
MAP_LOSS_KINDS = ("balanced_l1", "l1")
_EMPTY_REGION = 1e-6


def cross_attention_map_loss(
    probs: Sequence[torch.Tensor],
    subject_segmaps: torch.Tensor,
    subject_valid: torch.Tensor,
    kind: MapLossKind = "balanced_l1",
) -> torch.Tensor:
    """Penalise attention of a subject's token outside of the subject.

    "l1" is Subject-Diffusion eq. 2: mean over pixels and heads of |CA_l(z, y_k) - M_k|, mean over a
    picture's subjects, sum over layers. "balanced_l1" is FastComposer's form, which the reference
    code uses: mean of the map over the background minus its mean over the subject, per head; mean
    over heads, a picture's subjects and layers. Both are means over pictures.

    Args:
        probs: one tensor per layer, (B, H, Q, N): the columns of each subject's token (label's last
            token or placeholder: call once per token kind and average).
        subject_segmaps: (B, N, H_i, W_i) in 0..1, 1 = subject, in the frame of the generated image.
        subject_valid: (B, N) bool; a picture without subjects counts as 0.
        kind: "balanced_l1" or "l1".

    Returns:
        Scalar; 0 without valid subjects.

    >>> probs = [torch.tensor([[[[0.5], [0.1]]]])]
    >>> segmaps, valid = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[True]])
    >>> cross_attention_map_loss(probs, segmaps, valid)
    tensor(-0.4000)
    >>> cross_attention_map_loss(probs, segmaps, valid, kind="l1")
    tensor(0.3000)
    """
    if kind not in MAP_LOSS_KINDS:
        raise ValueError(
            f"kind: expected one of {', '.join(MAP_LOSS_KINDS)}, got {kind!r}. Choose one of them."
        )
    if not probs:
        raise ValueError("probs: expected one tensor per layer, got none. Name at least one layer.")
    _check_inputs(probs, subject_segmaps, subject_valid)
    layer_losses = []
    resized: dict[int, torch.Tensor] = {}  # layers have a few sizes only
    for layer_probs in probs:
        num_positions = layer_probs.shape[2]
        if num_positions not in resized:
            size = latent_size(num_positions, *subject_segmaps.shape[-2:])
            segmaps = _resize(subject_segmaps, size, kind).to(layer_probs).flatten(2)
            resized[num_positions] = segmaps.transpose(1, 2).unsqueeze(1)  # (B, 1, Q, N)
        targets = resized[num_positions]
        distance = _l1 if kind == "l1" else _balanced_l1
        per_subject = distance(layer_probs, targets).mean(dim=1)  # mean over heads: (B, N)
        layer_losses.append(_mean_over_pictures(per_subject, subject_valid.bool()))
    total = torch.stack(layer_losses)
    return total.sum() if kind == "l1" else total.mean()


def latent_size(num_positions: int, image_height: int, image_width: int) -> tuple[int, int]:
    """Height and width of a layer's latent from its number of positions and the image's aspect
    ratio.

    >>> latent_size(32, 256, 512)
    (4, 8)
    """
    height = max(1, round((num_positions * image_height / image_width) ** 0.5))
    width = num_positions // height
    if height * width != num_positions:
        raise ShapeError(
            f"probs: expected a number of positions that fits {image_height}x{image_width} pixels, "
            f"got {num_positions}. Pass segmentations with the aspect ratio of the latent."
        )
    return height, width


def _resize(segmaps: torch.Tensor, size: tuple[int, int], kind: MapLossKind) -> torch.Tensor:
    """Area averages for eq. 2; the reference has PyTorch's smoothed bilinear ones."""
    if kind == "l1":
        return area_resize(segmaps.float(), *size)
    return F.interpolate(segmaps.float(), size, mode="bilinear", antialias=True)


def _l1(probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(B, H, Q, N), (B, 1, Q, N) -> (B, H, N)."""
    return (probs - targets).abs().mean(dim=2)


def _balanced_l1(probs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(B, H, Q, N), (B, 1, Q, N) -> (B, H, N)."""
    background = 1 - targets
    on_subject = (probs * targets).sum(2) / targets.sum(2).clamp(min=_EMPTY_REGION)
    on_background = (probs * background).sum(2) / background.sum(2).clamp(min=_EMPTY_REGION)
    return on_background - on_subject


def _mean_over_pictures(per_subject: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    # torch.where, not a product: the columns of an empty slot may hold anything, even NaN
    of_picture = torch.where(valid, per_subject, torch.zeros_like(per_subject)).sum(1)
    return (of_picture / valid.sum(1).clamp(min=1)).mean()


def _check_inputs(
    probs: Sequence[torch.Tensor], subject_segmaps: torch.Tensor, subject_valid: torch.Tensor
) -> None:
    action = "Pass one map per subject slot"
    require_shape("subject_segmaps", subject_segmaps, ("B", "N", "H", "W"), action)
    batch, slots = subject_segmaps.shape[:2]
    require_shape("subject_valid", subject_valid, (batch, slots), "Pass one flag per slot")
    for layer, layer_probs in enumerate(probs):
        require_shape(f"probs[{layer}]", layer_probs, (batch, "heads", "Q", slots), action)
