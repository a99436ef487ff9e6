"""Steps on windows of half the side: a quarter of the cost, and most of what they see is a subject
(Patch Diffusion, Wang et al. 2023, without its coordinates).

# Shapes: B pictures, c latent channels, h x h latents, N subject slots.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SEED = 76
CYCLE = 4
CUT = ("latents", "location_mask")


def windowed(tensors: dict[str, Tensor], positions: list[int]) -> dict[str, Tensor]:
    """A batch's tensors with latents (B, c, h/2, h/2), and the location mask alike."""
    side = tensors["latents"].shape[-1]
    corners = [
        window_corner(boxes.cpu().numpy(), side, position)
        for boxes, position in zip(tensors["subject_boxes_xyxy"], positions, strict=True)
    ]
    half = side // 2
    cuts = {
        name: torch.stack(
            [
                picture[:, top : top + half, left : left + half]
                for picture, (left, top) in zip(tensors[name], corners, strict=True)
            ]
        )
        for name in CUT
    }
    return {**tensors, **cuts}


def window_corner(boxes: np.ndarray, side: int, position: int) -> tuple[int, int]:
    """Left and top of a window of half the ``side`` around a point of one of the boxes (N, 4) in
    0..1; those of empty slots are zero."""
    rng = np.random.default_rng((SEED, position))
    there = boxes[boxes[:, 2] > boxes[:, 0]]
    box = there[rng.integers(len(there))]
    point = side * (box[:2] + rng.random(2) * (box[2:] - box[:2]))
    left, top = np.clip(np.round(point - side / 4), 0, side // 2).astype(int)
    return int(left), int(top)
