"""Weights that lie in pieces on several processes (FSDP): whole ones for checkpoints and back.

A tensor in pieces is a DTensor; every other tensor is left as it is, so one process and DDP take
the same path. Gathering is a collective: all processes call it, in the same order.

FSDP cuts along the first dimension and refuses scalars, such as the adapters' gates: they become
vectors of one element for the run, and scalars again in its checkpoints.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
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


def scalars_to_vectors(model: nn.Module) -> list[str]:
    """Give every scalar parameter the shape (1,); their names."""
    names = [name for name, parameter in model.named_parameters() if parameter.ndim == 0]
    for name in names:
        path, _, attribute = name.rpartition(".")
        module, old = model.get_submodule(path), model.get_parameter(name)
        vector = nn.Parameter(old.detach().reshape(1), requires_grad=old.requires_grad)
        setattr(module, attribute, vector)
    return names


def with_scalars(tensors: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Whole tensors by parameter name, those of :func:`scalars_to_vectors` as scalars again."""
    scalars = set(names)
    return {name: t.reshape(()) if name in scalars else t for name, t in tensors.items()}


def in_pieces_like(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor in the shape of ``like``, cut as it is."""
    if value.shape != like.shape:
        value = value.reshape(like.shape)
    if not isinstance(like, DTensor):
        return value
    placed = value.to(like.device, like.dtype)
    return distribute_tensor(placed, like.device_mesh, like.placements)


def optimizer_state_in_pieces(state: dict[str, Any], parameters: list[Tensor]) -> dict[str, Any]:
    """An optimiser's whole state, its moments cut as their parameters are.

    ``parameters`` in the order of the optimiser's groups, which numbers them. What is no moment
    (counters, the tables of 8-bit optimisers) stays as it is.
    """

    def cut(name: str, value: Any, like: Tensor) -> Any:
        if name == "step" or not isinstance(value, Tensor) or value.numel() != like.numel():
            return value
        return in_pieces_like(value, like)

    entries = {
        number: {name: cut(name, v, parameters[int(number)]) for name, v in entry.items()}
        for number, entry in state["state"].items()
    }
    return {**state, "state": entries}
