"""A start for adapters with positions: every head looks at one spot of what belongs at its place.

# Shapes: d block width, H heads, K width of a head, F' width of the position features.
Trained from random weights, an adapter takes thousands of steps to find out that q.k of equal
positions should be large. Position features phi (Fourier features of a box) have the kernel
phi(x).phi(x') = sum_k cos(f_k (x - x')), which is already a bump, so the projections only have to
keep it: both sides map the same K/2 frequency pairs of phi into a K-dimensional subspace.

A latent cell shows several patches of a small subject, so the heads share the work: the queries of
each are turned, pair by pair, by the angle f_k delta, which makes it look at x + delta, its own
spot of the cell.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from subject_diffusion_core.gated_attention import GatedSelfAttention

POSITION_GAIN = 3.0
PEAK_LOGIT = 9.0  # at equal positions
COORDINATES = 4
NARROWEST_WAVE = 1.1  # cells: shorter waves alias between boxes of cells and of small patches


@torch.no_grad()
def start_locally(
    layer: GatedSelfAttention, cell_size: float, num_freqs: int, temperature: float
) -> None:
    """Initialise the position weights and to_q, to_k, to_v of an untrained layer, in place.

    The subspace belongs to positions alone: to_v starts blind to it.

    Args:
        cell_size: width of a latent cell of this layer, as a fraction of the picture.
        num_freqs, temperature: of the box's Fourier features.
    """
    attention = layer.attn
    width, head_dim = layer.query_dim, attention.head_dim
    frequencies = chosen_frequencies(head_dim, cell_size, num_freqs, temperature)
    selection = pair_selection(frequencies, num_freqs)  # (K, F')
    subspace = nn.init.orthogonal_(torch.empty(width, head_dim))  # (d, K)
    layer.query_position.weight.copy_(POSITION_GAIN * subspace @ selection)
    outside = torch.eye(width) - subspace @ subspace.T
    # the logit of equal positions: K^-0.5 * (gain * POSITION_GAIN)^2 * |selected phi|^2, K/2 pairs
    gain = math.sqrt(2 * PEAK_LOGIT / math.sqrt(head_dim)) / POSITION_GAIN
    values = [temperature ** (k / num_freqs) for k in frequencies]
    turns = [
        pair_rotation(values, dx * cell_size, dy * cell_size)
        for dx, dy in head_offsets(attention.num_heads)
    ]
    queries, keys = torch.cat(turns), torch.eye(head_dim).repeat(attention.num_heads, 1)
    for projection, side in ((attention.to_q, queries), (attention.to_k, keys)):
        projection.weight.copy_(projection.weight @ outside + gain * side @ subspace.T)
    attention.to_v.weight.copy_(attention.to_v.weight @ outside)


def chosen_frequencies(
    head_dim: int, cell_size: float, num_freqs: int, temperature: float
) -> list[int]:
    """Which frequencies a head of ``head_dim`` numbers keeps: the highest that do not alias.

    >>> chosen_frequencies(32, 1 / 16, 8, 100.0)
    [4, 5, 6, 7]
    >>> chosen_frequencies(32, 1 / 8, 8, 100.0)
    [3, 4, 5, 6]
    """
    count = head_dim // (2 * COORDINATES)
    limit = 2 * math.pi / (NARROWEST_WAVE * cell_size)
    usable = [k for k in range(num_freqs) if temperature ** (k / num_freqs) <= limit]
    return (usable if len(usable) >= count else list(range(num_freqs)))[-count:]


def pair_selection(frequencies: list[int], num_freqs: int) -> Tensor:
    """(K, F') of 0 and 1: the sines of the chosen frequencies' coordinates, then the cosines."""
    per_frequency = 2 * COORDINATES
    sines = [k * per_frequency + c for k in frequencies for c in range(COORDINATES)]
    columns = sines + [column + COORDINATES for column in sines]
    return torch.eye(num_freqs * per_frequency)[columns]


def pair_rotation(frequencies: list[float], dx: float, dy: float) -> Tensor:
    """(K, K) that turns the selected features of a box into those of the box moved by (dx, dy)."""
    moves = torch.tensor([dx, dy, dx, dy])
    angles = (torch.tensor(frequencies)[:, None] * moves).flatten()
    sine, cosine = angles.sin().diag(), angles.cos().diag()
    return torch.cat([torch.cat([cosine, sine], 1), torch.cat([-sine, cosine], 1)])


def head_offsets(num_heads: int) -> list[tuple[float, float]]:
    """The middles of ``num_heads`` equal parts of a cell, from its centre, in cells.

    >>> head_offsets(4)
    [(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)]
    """
    rows = max(r for r in range(1, math.isqrt(num_heads) + 1) if num_heads % r == 0)
    columns = num_heads // rows
    return [
        ((x + 0.5) / columns - 0.5, (y + 0.5) / rows - 0.5)
        for y in range(rows)
        for x in range(columns)
    ]
