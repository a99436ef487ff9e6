"""The row TorchCompile of docs/compatibility's table: compiled models with subjects.

Models are traced and run as traced, without a compiler for this machine.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from beside_setup import SAMPLERS, Applied, Setup, inside_and_outside, row
from host_models import Host, relative_error


@pytest.fixture(scope="module")
def setup(host: Host, comfy_nodes: Any) -> Setup:
    with torch.inference_mode():
        return Setup(host, comfy_nodes)


def compiled(setup: Setup, sampler: str, applied: Applied, steps: int = 2) -> torch.Tensor:
    model = setup.call("TorchCompileModel", model=applied.model, backend="eager")
    return setup.sample(sampler, model, applied.branches, steps=steps)


@row("TorchCompile")
def test_a_compiled_model(setup: Setup, sampler: str) -> None:
    """The same picture as without, of either subject."""
    pictures = []
    for applied in (setup.crab, setup.owl):
        pictures.append(compiled(setup, sampler, applied))
        wanted = setup.sample(sampler, applied.model, applied.branches, steps=2)
        assert relative_error(pictures[-1], wanted) < 1e-4
    inside, outside = inside_and_outside(pictures[0] - pictures[1])
    assert inside > 1.5 * outside


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_strength_zero_is_the_compiled_base(setup: Setup, sampler: str) -> None:
    off, stock = (compiled(setup, sampler, applied) for applied in (setup.off, setup.stock))
    assert torch.equal(off, stock)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_start_in_the_middle(setup: Setup, sampler: str) -> None:
    """The adapter's weights come in while the compiled model runs."""
    late = setup.apply("crab", start_percent=0.5)
    wanted = setup.sample(sampler, late.model, late.branches)
    assert relative_error(compiled(setup, sampler, late, steps=4), wanted) < 1e-4
    assert relative_error(
        setup.sample(sampler, setup.stock.model, setup.stock.branches), wanted
    ) > (1e-3)
