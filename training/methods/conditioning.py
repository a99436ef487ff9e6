"""What a batch tells the model of any method.

# Shapes: B batch, N subject slots, P patch tokens, L text tokens, h x w latents.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """What one branch of a batch is told; every tensor has the batch as its first dimension.

    Attributes:
        token_ids: (B, L) long, compact vocabulary.
        placeholder_positions: (B, N) long, where each subject's placeholder stands.
        label_positions: (B, N) long, the last token of each label in the suffix.
        text_valid: (B, N) bool, whether the prompt carries this subject's suffix.
        subject_valid: (B, N) bool, whether the slot's grounding tokens are a subject's.
        subject_boxes_xyxy: (B, N, 4) in [0, 1].
        patch_embeds: (B, N, P, C'), image_embeds: (B, N, E); None where nothing looks at them.
        location_mask: (B, 1, h, w), 1 inside the boxes.
        adapter_scale: (B, 1, 1); 0 makes the sample the plain base model's.
        label_token_ids: (B, N, L') long, each label alone; None where nothing reads them.
    """

    token_ids: Tensor
    placeholder_positions: Tensor
    label_positions: Tensor
    text_valid: Tensor
    subject_valid: Tensor
    subject_boxes_xyxy: Tensor
    patch_embeds: Tensor | None
    image_embeds: Tensor | None
    location_mask: Tensor
    adapter_scale: Tensor
    label_token_ids: Tensor | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> Conditioning:
        """Move everything to ``device``; features, masks and scales also to ``dtype``."""
        moved: dict[str, Any] = {}
        for item in fields(self):
            tensor = getattr(self, item.name)
            if tensor is None:
                moved[item.name] = None
                continue
            tensor = tensor.to(device, non_blocking=True)
            keep = item.name == "subject_boxes_xyxy" or not tensor.is_floating_point()
            moved[item.name] = tensor if keep else tensor.to(dtype)
        return Conditioning(**moved)


def conditioning_of(tensors: dict[str, Tensor]) -> Conditioning:
    """What the model is told, from a batch's tensors."""
    told: dict[str, Any] = {field.name: tensors.get(field.name) for field in fields(Conditioning)}
    return Conditioning(**{**told, "adapter_scale": tensors["adapter_scale"].reshape(-1, 1, 1)})


def watched_positions(conditioning: Conditioning) -> Tensor:
    """Text positions the map loss looks at: labels, then placeholders; (B, 2N), empty = 0."""
    positions = [conditioning.label_positions, conditioning.placeholder_positions]
    return torch.cat(positions, dim=1).clamp(min=0)
