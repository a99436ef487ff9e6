"""Two recordings of one graph, bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Equal shape, dtype and bytes: -0 is not 0, and a NaN equals itself.

    >>> same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    False
    """
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    flat = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second))
    return torch.equal(*flat)


def describe_difference(name: str, first: torch.Tensor, second: torch.Tensor) -> str:
    """What is different, in a few words."""
    if first.shape != second.shape or first.dtype != second.dtype:
        kinds = (f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in (first, second))
        return f"{name} {' became '.join(kinds)}"
    difference = (first.double() - second.double()).abs().max().item()
    return f"{name} max abs difference {difference:.3g}"


def compare(before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor]) -> list[str]:
    """One sentence for every tensor that differs, is missing or is new."""
    found = [f"{name} is missing" for name in before if name not in after]
    found += [f"{name} is new" for name in after if name not in before]
    for name, tensor in before.items():
        if name in after and not same_bits(tensor, after[name]):
            found.append(describe_difference(name, tensor, after[name]))
    return found
