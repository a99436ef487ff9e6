"""A start for adapters with positions: every place looks at what belongs at that place.

# Shapes: d block width, H heads, K width of a head, F' width of the position features.
Trained from random weights, an adapter takes thousands of steps to find out that q.k of equal
positions should be large. Position features phi (Fourier features of a box) have the kernel
phi.phi' = sum_k cos(f_k (x - x')), which is already a bump, so the projections only have to keep
it: both sides map phi into the same K-dimensional subspace, and to_q and to_k agree on it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from subject_diffusion_core.gated_attention import GatedSelfAttention

POSITION_GAIN = 3.0
KERNEL_GAIN = 1.8  # logit = sqrt(K) * KERNEL_GAIN * phi.phi' / |phi|^2: about 10 at equal places


@torch.no_grad()
def start_locally(layer: GatedSelfAttention) -> None:
    """Initialise the position weights and to_q, to_k, to_v of an untrained layer, in place.

    The subspace belongs to positions alone: to_v starts blind to it.
    """
    attention = layer.attn
    width, head_dim = layer.query_dim, attention.head_dim
    subspace = _orthonormal(width, head_dim)  # (d, K)
    mixture = _orthonormal(layer.query_position_dim, head_dim).T  # (K, F')
    keep_half = (layer.query_position_dim / head_dim) ** 0.5  # the mixture keeps K of F' directions
    layer.query_position.weight.copy_(POSITION_GAIN * keep_half * subspace @ mixture)
    outside = torch.eye(width) - subspace @ subspace.T
    gain = KERNEL_GAIN**0.5 / POSITION_GAIN
    turns = torch.cat([_orthonormal(head_dim, head_dim) for _ in range(attention.num_heads)])
    for projection in (attention.to_q, attention.to_k):
        projection.weight.copy_(projection.weight @ outside + gain * turns @ subspace.T)
    attention.to_v.weight.copy_(attention.to_v.weight @ outside)


def _orthonormal(rows: int, columns: int) -> Tensor:
    """(rows, columns) with orthonormal columns; rows >= columns."""
    return nn.init.orthogonal_(torch.empty(rows, columns))
