"""FreeU, HyperTile, Deep Shrink and hypernetworks of ComfyUI on the same MODEL as the adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from host_models import (
    Base,
    Host,
    cfg_guider,
    random_context,
    random_noise,
    relative_error,
    sample,
)

POSITIONS = {"patch_positions": True, "query_positions": True, "token_positions": True}
OTHERS = {
    "FreeU": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    "FreeU_V2": {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2},
    # tiles of 8 x 8 latent cells, without choice, so that two runs are equal
    "HyperTile": {"tile_size": 64, "swap_size": 1, "max_depth": 0, "scale_depth": False},
    "PatchModelAddDownscale": {
        "block_number": 3,
        "downscale_factor": 2.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        "downscale_after_skip": True,
        "downscale_method": "bicubic",
        "upscale_method": "bicubic",
    },
    "HypernetworkLoader": {"hypernetwork_name": "tiny.pt", "strength": 1.0},
}


class Setup:
    """A small UNet of Stable Diffusion 2's class and an adapter for it."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.base: Base = host.make_base("sd2")
        self.loaded = host.make_adapter(self.base, folder, **POSITIONS)
        self.noise = random_noise(self.base)

    def apply(self, model: Any, strength: float = 1.0) -> Any:
        return self.host.apply_node.apply_adapter(model, self.base.clip, self.loaded, strength)[0]

    def run(self, model: Any, has_subjects: bool = True) -> torch.Tensor:
        context = random_context(self.base)
        branch = self.host.branch(self.loaded, 2) if has_subjects else None
        positive = self.host.conditioning(context, branch)
        return sample(cfg_guider(model, positive, positive), self.noise, steps=2)


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    with torch.inference_mode():
        return Setup(host, tmp_path_factory.mktemp("other_patches"))


@pytest.fixture(scope="module")
def hypernetwork() -> None:
    """Keys and values of self-attention (128) and of cross-attention (96, the text's width)."""
    generator = torch.Generator().manual_seed(4)
    state = {}
    for width in (96, 128):
        layers = []
        for _ in range(2):
            weight = 0.5 * torch.randn(width, width, generator=generator) / width**0.5
            layers.append({"linear.0.weight": weight, "linear.0.bias": torch.zeros(width)})
        state[width] = layers
    (folder, *_) = folder_paths.get_folder_paths("hypernetworks")
    Path(folder).mkdir(parents=True, exist_ok=True)
    torch.save(state, Path(folder) / "tiny.pt")


def other_node(comfy_nodes: Any, name: str) -> Callable[[Any], Any]:
    """MODEL -> MODEL of a stock node, old or new style."""

    def patch(model: Any) -> Any:
        node_class = comfy_nodes.NODE_CLASS_MAPPINGS[name]
        function = getattr(node_class(), node_class.FUNCTION)
        result = function(model=model, **OTHERS[name])
        return getattr(result, "args", result)[0]

    return patch


@pytest.mark.parametrize("name", OTHERS)
def test_both_act_in_either_order(
    setup: Setup, comfy_nodes: Any, hypernetwork: None, name: str
) -> None:
    other = other_node(comfy_nodes, name)
    stock = setup.base.model
    before, after = setup.run(setup.apply(other(stock))), setup.run(other(setup.apply(stock)))
    assert torch.equal(before, after)
    assert bool(before.isfinite().all())
    assert relative_error(before, setup.run(setup.apply(stock))) > 1e-3
    assert relative_error(before, setup.run(other(stock), has_subjects=False)) > 1e-2


@pytest.mark.parametrize("name", OTHERS)
def test_strength_zero_leaves_the_other_alone(
    setup: Setup, comfy_nodes: Any, hypernetwork: None, name: str
) -> None:
    other = other_node(comfy_nodes, name)
    wanted = setup.run(other(setup.base.model), has_subjects=False)
    got = setup.run(other(setup.apply(setup.base.model, 0.0)), has_subjects=False)
    assert torch.equal(got, wanted)
