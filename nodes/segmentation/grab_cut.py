# Shapes: h, w size of a picture in pixels, N = h * w, K mixture components.
"""GrabCut: a subject against its surroundings by their colours and by where these change.

Rother, Kolmogorov, Blake: "GrabCut", SIGGRAPH 2004. Two mixtures of Gaussians say which colours
belong to the subject and which to the rest; a minimal cut through the grid of pixels, cheap where
neighbours differ, separates them; then the mixtures are fitted anew. Everything is computed from
the picture alone: the same picture gives the same mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Colours = NDArray[np.float64]  # (N, 3) in 0..1
Marks = NDArray[np.bool_]  # (N,) or (h, w)

NUM_COMPONENTS = 5
NUM_ROUNDS, SETTLED = 5, 1e-3  # rounds at most; the share of pixels below which nothing moves
SMOOTHNESS = 50.0  # gamma of the paper
UNIT = 20.0  # capacities are whole numbers: so many to one of energy
LARGEST_COST, NEVER = 20_000, 1_000_000
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows down, columns to the right
LEAST_VARIANCE = 1e-3


class Edges(NamedTuple):
    """Pairs of neighbours (M,) and what it costs to cut between them, both ways."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    costs: NDArray[np.int32]


def grab_cut(picture: NDArray[np.float64], maybe: Marks, subject: Marks, rest: Marks) -> Marks:
    """The subject in a picture.

    Args:
        picture: (h, w, 3) in 0..1.
        maybe: (h, w), where the subject may be; what is outside is known not to be it.
        subject, rest: (h, w), what is known to be the subject and what is known not to be.

    Returns:
        (h, w), True on the subject.
    """
    shape = maybe.shape
    colours = picture.reshape(-1, 3)
    known_subject = subject.ravel()
    known_rest = (rest | ~maybe).ravel() & ~known_subject
    edges = _edges(colours, shape)
    found = ~known_rest
    for _ in range(NUM_ROUNDS):
        if found.all() or not found.any():
            break
        of_subject = _costs(colours, colours[found])
        of_rest = _costs(colours, colours[~found])
        before, found = found, _cut(edges, of_subject, of_rest, known_subject, known_rest)
        if (found != before).mean() < SETTLED:
            break
    return found.reshape(shape)


def _edges(colours: Colours, shape: tuple[int, ...]) -> Edges:
    """The grid's neighbours, also over corners (eq. 11, with distances)."""
    index = np.arange(len(colours)).reshape(shape)
    pairs = [
        (index[: shape[0] - down, max(0, -right) : shape[1] - max(0, right)].ravel(),
         index[down:, max(0, right) : shape[1] + min(0, right)].ravel(),
         float(np.hypot(down, right)))
        for down, right in NEIGHBOURS
    ]  # fmt: skip
    squares = [((colours[a] - colours[b]) ** 2).sum(axis=1) for a, b, _ in pairs]
    mean = float(np.concatenate(squares).mean())
    costs = [
        np.round(UNIT * SMOOTHNESS * np.exp(-square / max(2.0 * mean, 1e-12)) / distance)
        for square, (_, _, distance) in zip(squares, pairs, strict=True)
    ]
    first, second = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    return Edges(first, second, np.concatenate(costs).astype(np.int32))


def _costs(colours: Colours, sample: Colours) -> Colours:
    """(N,) minus the log-likelihood of each colour in a mixture fitted to `sample`."""
    likelihoods = []
    for share, mean, covariance in _mixture(sample):
        away = colours - mean
        squares = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away)
        half_log_volume = 0.5 * np.log(np.linalg.det(covariance))
        likelihoods.append(np.log(share) - half_log_volume - 0.5 * squares)
    return np.asarray(-np.logaddexp.reduce(np.stack(likelihoods), axis=0))


def _mixture(sample: Colours) -> Iterator[tuple[float, Colours, Colours]]:
    """Share, mean (3,) and covariance (3, 3) of each component."""
    nearest = _clusters(sample)
    for number in np.unique(nearest):
        members = sample[nearest == number]
        spread = np.cov(members.T, bias=True) if len(members) > 1 else np.zeros((3, 3))
        yield len(members) / len(sample), members.mean(axis=0), spread + LEAST_VARIANCE * np.eye(3)


def _clusters(sample: Colours, num_rounds: int = 10) -> NDArray[np.intp]:
    """The nearest of K means for each colour; the means begin far from each other."""
    means = sample.mean(axis=0, keepdims=True)
    for _ in range(NUM_COMPONENTS - 1):
        farthest = _squared_distances(sample, means).min(axis=1).argmax()
        means = np.concatenate([means, sample[farthest, None]])
    for _ in range(num_rounds):
        nearest = _squared_distances(sample, means).argmin(axis=1)
        for number in np.unique(nearest):
            means[number] = sample[nearest == number].mean(axis=0)
    return np.asarray(_squared_distances(sample, means).argmin(axis=1))


def _squared_distances(colours: Colours, means: Colours) -> Colours:
    """(N, K)"""
    return np.asarray(((colours[:, None] - means[None]) ** 2).sum(axis=2))


def _cut(
    edges: Edges, of_subject: Colours, of_rest: Colours, known_subject: Marks, known_rest: Marks
) -> Marks:
    """(N,) the side of the subject in the cheapest cut."""
    from scipy import sparse
    from scipy.sparse import csgraph

    count = len(of_subject)
    source, sink = count, count + 1
    least = np.minimum(of_subject, of_rest)
    # what it costs to take a pixel from the subject, and from the rest
    from_subject, from_rest = (
        np.clip(np.round(UNIT * (costs - least)), 0, LARGEST_COST).astype(np.int32)
        for costs in (of_rest, of_subject)
    )
    from_subject[known_rest], from_rest[known_rest] = 0, NEVER
    from_subject[known_subject], from_rest[known_subject] = NEVER, 0
    pixels = np.arange(count)
    rows = np.concatenate([edges.first, edges.second, np.full(count, source), pixels])
    columns = np.concatenate([edges.second, edges.first, pixels, np.full(count, sink)])
    costs = np.concatenate([edges.costs, edges.costs, from_subject, from_rest])
    used = costs > 0
    size = (count + 2, count + 2)
    graph: Any = sparse.csr_matrix((costs[used], (rows[used], columns[used])), shape=size)
    left = graph - csgraph.maximum_flow(graph, source, sink).flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    reached = csgraph.breadth_first_order(left, source, return_predecessors=False)
    found = np.zeros(count + 2, dtype=bool)
    found[reached] = True
    return found[:count]
