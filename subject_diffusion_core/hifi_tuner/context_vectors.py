# Shapes: B samples, L vectors of a text encoder's output, d their width, n tuned vectors.
"""Where a tuned embedding stands: in place of the last n vectors of the text encoder's output."""

from __future__ import annotations

import torch

from ..errors import ShapeError, require_shape


def last_vectors(context: torch.Tensor, num_vectors: int) -> torch.Tensor:
    """phi_s of HiFi Tuner: the last n vectors of one text, (1, L, d) -> (n, d).

    >>> last_vectors(torch.arange(6.0).view(1, 3, 2), 2)
    tensor([[2., 3.],
            [4., 5.]])
    """
    require_shape("context", context, (1, "L", "d"), "Pass one text")
    if not 0 < num_vectors < context.shape[1]:
        raise ShapeError(
            f"num_vectors: expected 1 to {context.shape[1] - 1}, got {num_vectors}. The text has "
            f"{context.shape[1]} vectors in all."
        )
    return context[0, -num_vectors:]


def with_last_vectors(context: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """[c, c_s] of HiFi Tuner: texts (B, L, d) whose last n vectors are `vectors` (n, d).

    The result has the context's type; gradients reach `vectors` through the cast.

    >>> with_last_vectors(torch.zeros(1, 3, 2), torch.ones(1, 2))
    tensor([[[0., 0.],
             [0., 0.],
             [1., 1.]]])
    """
    require_shape("vectors", vectors, ("n", context.shape[-1]), "Pass vectors as wide as the text")
    if len(vectors) >= context.shape[1]:
        raise ShapeError(
            f"vectors: expected fewer than the text's {context.shape[1]}, got {len(vectors)}. "
            "Leave room for the prompt."
        )
    last = vectors.to(context).expand(context.shape[0], -1, -1)
    return torch.cat((context[:, : -len(vectors)], last), dim=1)
