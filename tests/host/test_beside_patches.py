"""MODEL patches of docs/compatibility's table beside subjects, with KSampler and our Guider."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from beside_patches import PATCHES, SAME_RESULT, Patch
from beside_setup import SAMPLERS, Applied, Setup, inside_and_outside
from host_models import Host, relative_error


@pytest.fixture(scope="module")
def setup(host: Host, comfy_nodes: Any) -> Setup:
    with torch.inference_mode():
        return Setup(host, comfy_nodes)


class Runs:
    """What a sampler makes beside a patch; without one, kept."""

    def __init__(self, setup: Setup, sampler: str) -> None:
        self.setup = setup
        self.sampler = sampler
        self.crab_alone = self.run(setup.crab)

    def run(self, applied: Applied, patch: Patch | None = None, steps: int = 4) -> torch.Tensor:
        model = applied.model if patch is None else patch(self.setup, applied.model)
        return self.setup.sample(self.sampler, model, applied.branches, steps=steps)


@pytest.fixture(scope="module", params=SAMPLERS)
def runs(setup: Setup, request: pytest.FixtureRequest) -> Runs:
    with torch.inference_mode():
        return Runs(setup, request.param)


@pytest.mark.parametrize("name", PATCHES)
def test_the_patch_and_the_subject_act(setup: Setup, runs: Runs, name: str) -> None:
    """The patch changes the picture; another subject in the box changes the box most of all."""
    crab, owl = (runs.run(applied, PATCHES[name]) for applied in (setup.crab, setup.owl))
    assert bool(crab.isfinite().all())
    change = relative_error(crab, runs.crab_alone)
    assert change < 1e-4 if name in SAME_RESULT else change > 1e-3
    inside, outside = inside_and_outside(crab - owl)
    assert inside > 1.5 * outside, (inside, outside)


@pytest.mark.parametrize("name", PATCHES)
def test_strength_zero_is_the_patch_alone(setup: Setup, runs: Runs, name: str) -> None:
    """Bit for bit what the patch makes of the base model."""
    torch.manual_seed(0)  # for patches that draw numbers
    off = runs.run(setup.off, PATCHES[name], steps=2)
    torch.manual_seed(0)
    assert torch.equal(off, runs.run(setup.stock, PATCHES[name], steps=2))
