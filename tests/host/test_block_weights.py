"""Apply's `block_weights`: a strength for single blocks' adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from host_models import Base, Host, random_context, random_noise, relative_error
from test_batching import one_branch


@pytest.fixture(scope="module")
def base(host: Host) -> Base:
    with torch.inference_mode():
        return host.make_base()


@pytest.fixture(scope="module")
def loaded(host: Host, base: Base, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return host.make_adapter(base, tmp_path_factory.mktemp("adapter"))


def predict(host: Host, base: Base, loaded: Any, weights: str, strength: float = 1.0) -> Any:
    node = host.apply_node.SubjectDiffusionApply
    model, _ = node.execute(base.model, base.clip, loaded, strength, 0.0, 1.0, weights).args
    branch = host.conditioning(random_context(base), host.branch(loaded, 2))
    return one_branch(model, branch, random_noise(base))


def test_what_is_refused_names_the_blocks(host: Host, base: Base, loaded: Any) -> None:
    names = [block.name for block in loaded.config.adapter_blocks]
    with pytest.raises(ValueError, match="block_weights: expected entries such as") as error:
        predict(host, base, loaded, "up=1, left=1")
    assert "got 'left=1'" in str(error.value)
    assert all(name in str(error.value) for name in names)


def test_all_one_is_the_same_bit_for_bit(host: Host, base: Base, loaded: Any) -> None:
    plain = predict(host, base, loaded, "", 0.7)
    assert torch.equal(predict(host, base, loaded, "down=1, mid=1, up=1", 0.7), plain)
    assert torch.equal(predict(host, base, loaded, "all=1.0", 0.7), plain)


def test_zero_is_a_block_without_an_adapter(
    host: Host, base: Base, loaded: Any, tmp_path: Path
) -> None:
    """Gates of zero are the layer that adds nothing."""
    got = predict(host, base, loaded, "mid=0, 0=0")
    gates = host.make_base()
    twin = host.make_adapter(base, tmp_path)  # its gates are changed in place
    assert twin.is_same(loaded)
    model, _ = host.apply_node.apply_adapter(gates.model, gates.clip, twin)
    (patcher,) = model.get_additional_models()
    modules = patcher.model
    silent = [name for name in modules.block_names if name.startswith("mid")]
    silent.append(min(name for name in modules.block_names if name.startswith("down")))
    for name in silent:
        for gate in (modules.gated_layer(name).alpha_attn, modules.gated_layer(name).alpha_dense):
            gate.zero_()
    branch = host.conditioning(random_context(base), host.branch(loaded, 2))
    assert torch.equal(got, one_branch(model, branch, random_noise(base)))
    assert relative_error(got, predict(host, base, loaded, "")) > 1e-3


def test_weights_multiply_the_strength(host: Host, base: Base, tmp_path: Path) -> None:
    parts = ("adapters", "grounding", "mlp")
    loaded = host.make_adapter(base, tmp_path, trained_parts=parts, location_control=False)
    halved = predict(host, base, loaded, "all=0.5", 0.8)
    assert torch.equal(halved, predict(host, base, loaded, "", 0.4))
