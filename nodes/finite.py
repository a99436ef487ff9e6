"""ComfyUI checks a number against its range, which NaN passes; these checks catch it."""

from __future__ import annotations

import math

import torch


def require_finite_numbers(owner: str, **values: float) -> None:
    """One sentence for the first of `values` that is NaN or infinite; `owner` is the node."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(
                f"{owner}'s {name}: expected a finite number, got {value}. Write a number."
            )


def require_finite_tensor(name: str, tensor: torch.Tensor, source: str) -> None:
    """One sentence if a picture or latent holds NaN or infinity; `source` is where to look."""
    if not bool(tensor.isfinite().all()):
        raise ValueError(
            f"{name}: expected finite numbers, got NaN or infinity. Look at {source}, for example "
            "with a preview."
        )
