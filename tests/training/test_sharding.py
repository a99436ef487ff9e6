"""Weights and optimiser state of FSDP's kind go whole into a checkpoint and back in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from training.loop.sharding import in_pieces_like, optimizer_state_in_pieces, whole


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[DeviceMesh]:
    """A mesh of this process alone."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_state_of_an_optimiser_survives(mesh: DeviceMesh) -> None:
    torch.manual_seed(0)
    plain = [torch.randn(4, 3), torch.randn(4)]
    pieces = [torch.nn.Parameter(distribute_tensor(t, mesh, [Shard(0)])) for t in plain]
    optimizer = torch.optim.AdamW(pieces, lr=0.1)
    for parameter in pieces:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = whole(optimizer.state_dict())
    moments = [entry["exp_avg"] for entry in state["state"].values()]
    assert all(type(m) is torch.Tensor for m in moments)
    other = torch.optim.AdamW(pieces, lr=0.1)
    other.load_state_dict(optimizer_state_in_pieces(state, pieces))
    restored = other.state_dict()["state"]
    assert all(isinstance(entry["exp_avg"], DTensor) for entry in restored.values())
    assert torch.equal(restored[0]["exp_avg"].full_tensor(), moments[0])


def test_weights_go_there_and_back(mesh: DeviceMesh) -> None:
    tensor = torch.randn(5, 2)
    piece = distribute_tensor(tensor, mesh, [Shard(0)])
    assert torch.equal(whole({"a": [piece]})["a"][0], tensor)
    again = in_pieces_like(tensor, piece)
    assert isinstance(again, DTensor) and again.placements == piece.placements
    assert in_pieces_like(tensor, tensor) is tensor
