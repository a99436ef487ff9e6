"""Weights that lie in pieces on several processes (FSDP): whole ones for checkpoints and back.

A tensor in pieces is a DTensor; every other tensor is left as it is, so one process and DDP take
the same path. Gathering is a collective: all processes call it, in the same order.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def whole(value: Any) -> Any:
    """The value with every piecewise tensor in it put together."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: whole(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [whole(entry) for entry in value]
    return value


def in_pieces_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, cut as ``like`` is."""
    if not isinstance(like, DTensor):
        return value
    placed = value.to(like.device, like.dtype)
    return distribute_tensor(placed, like.device_mesh, like.placements)


def optimizer_state_in_pieces(state: dict[str, Any], parameters: list[Tensor]) -> dict[str, Any]:
    """An optimiser's whole state, its moments cut as their parameters are.

    ``parameters`` in the order of the optimiser's groups, which numbers them.
    """
    cut = {}
    for number, entry in state["state"].items():
        like = parameters[int(number)]
        cut[number] = {
            name: in_pieces_like(v, like) if name != "step" and v.shape == like.shape else v
            for name, v in entry.items()
        }
    return {**state, "state": cut}
