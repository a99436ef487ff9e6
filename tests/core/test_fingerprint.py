"""What tells adapters apart."""

from dataclasses import replace

import pytest
import torch
from adapter_factory import make_adapter

from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.adapter import PARTS, Adapter


def copy_of(adapter: Adapter) -> Adapter:
    parts = {p: {n: t.clone() for n, t in getattr(adapter, p).items()} for p in PARTS}
    return replace(adapter, **parts)


def test_a_copy_has_the_same(adapter, tmp_path):
    assert copy_of(adapter).fingerprint == adapter.fingerprint
    checkpoint.save(tmp_path / "a.safetensors", adapter)
    assert checkpoint.load(tmp_path / "a.safetensors").fingerprint == adapter.fingerprint


@pytest.mark.parametrize("part", PARTS)
def test_one_number_of_any_part_makes_another(adapter, part):
    other = copy_of(adapter)
    tensor = getattr(other, part)[min(getattr(other, part))]
    tensor.view(-1)[0] += 1
    assert other.fingerprint != adapter.fingerprint


def test_the_order_of_the_tensors_does_not_matter(adapter):
    turned = replace(adapter, unet=dict(reversed(adapter.unet.items())))
    assert turned.fingerprint == adapter.fingerprint


def test_names_types_shapes_and_configuration_count(adapter):
    mlp = adapter.mlp
    renamed = {**mlp, "fc1.bias": mlp["fc2.bias"], "fc2.bias": mlp["fc1.bias"]}
    turned = {**mlp, "fc1.weight": mlp["fc1.weight"].reshape(-1)}
    typed = {**mlp, "fc1.weight": mlp["fc1.weight"].view(torch.int32)}
    others = [replace(adapter, mlp=changed) for changed in (renamed, turned, typed)]
    others.append(make_adapter(mask_polarity="outside"))
    assert len({adapter.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_it_is_computed_once(adapter):
    first = adapter.fingerprint
    adapter.mlp["fc1.bias"] += 1
    assert adapter.fingerprint is first
