"""Keys and values of references that outlive their run: exact, bounded, gone with the weights."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.sd
import pytest
import torch
from host_models import Host, cfg_guider, sample
from reference_models import ReferenceBench, bench_of
from test_coexistence import make_lora
from test_nodes import make_subject
from test_self_subject_attention_node import Setup

MUCH = 2**30


@pytest.fixture
def bench(host: Host) -> ReferenceBench:
    return bench_of(host)


class Seeing:
    """A MODEL with a store, and conditionings that see one subject."""

    def __init__(self, bench: ReferenceBench, **options: Any) -> None:
        self.bench = bench
        mask = torch.rand(96, 160, generator=torch.Generator().manual_seed(2))
        subject = bench.subject(bench.reference((12, 20), mask=mask))
        self.both = [bench.seeing(text, subject) for text in (bench.text(), bench.text(4))]
        self.model = bench.attached(**options)
        self.store = self.model.get_attachment("subject_diffusion_self_subject_attention").store

    def run(self, seed: int = 7, model: Any = None, **options: Any) -> tuple[torch.Tensor, int]:
        """The latent, and how many passes it took."""
        self.bench.passes.clear()
        guider = cfg_guider(model or self.model, *self.both, 3.0)
        latent = sample(guider, self.bench.noise(seed=seed), **options)
        return latent, len(self.bench.passes)


@pytest.mark.parametrize("family", ["tiny", "sd15", "sdxl"])
@pytest.mark.parametrize("noise", ["fixed", "per step"])
def test_the_next_seed_takes_no_pass_and_is_the_same(host: Host, family: str, noise: str) -> None:
    seeing = Seeing(bench_of(host, family), noise=noise, max_bytes=MUCH)
    without = Seeing(seeing.bench, noise=noise)
    without.both = seeing.both
    first, passes = seeing.run()
    assert passes == 3 and torch.equal(first, without.run()[0])
    for seed in (7, 8):
        again, passes = seeing.run(seed)
        assert passes == 0
        assert torch.equal(again, without.run(seed)[0])
    wanted, passes = without.run(8, sampler="heun", steps=4)
    assert passes == 4
    other, passes = seeing.run(8, sampler="heun", steps=4)
    assert torch.equal(other, wanted)
    assert passes < 4  # the first noise level is known


def test_it_is_bounded_in_bytes(bench: ReferenceBench) -> None:
    """What fits is kept, the rest is asked again; what is no longer used makes place."""
    whole = Seeing(bench, max_bytes=MUCH)
    whole.run()
    share = whole.store.num_bytes // 3
    assert share > 0
    for room, kept in ((0.5, 0), (1.5, 1), (2.5, 2), (3.0, 3)):
        seeing = Seeing(bench, max_bytes=int(room * share))
        wanted, _ = seeing.run()
        assert seeing.store.num_bytes == kept * share
        again, passes = seeing.run()
        assert passes == 3 - kept and torch.equal(again, wanted)
    for _ in range(3):
        seeing.run(steps=5)
    assert seeing.store.num_bytes == 3 * share
    assert seeing.run(steps=5)[1] == 2


def test_the_bytes_are_those_of_keys_and_values(bench: ReferenceBench) -> None:
    seeing, sizes = Seeing(bench, max_bytes=MUCH), []

    def behind(out: torch.Tensor, options: Any) -> torch.Tensor:
        keys = options.get(bench.host.reference_pass.WRITE_KEY)
        if keys is not None:
            sizes.append(keys)
        return out

    model = seeing.model.clone()
    model.set_model_attn1_output_patch(behind)
    seeing.run(model=model)
    layers = [layer for keys in set(sizes) for layer in keys.layers.values()]
    wanted = sum(x.numel() * x.element_size() for layer in layers for x in (layer.key, layer.value))
    assert seeing.store.num_bytes == wanted


def test_another_model_asks_anew(bench: ReferenceBench) -> None:
    """A clone with a LoRA or with patches shares the store, but none of its keys."""
    seeing, plain = Seeing(bench, max_bytes=MUCH), Seeing(bench)
    plain.both = seeing.both
    seeing.run()
    clip = bench.host.make_base().clip
    loras = [
        comfy.sd.load_lora_for_models(each.model, clip, make_lora(), 1.0, 1.0)[0]
        for each in (seeing, plain)
    ]
    changed, passes = seeing.run(model=loras[0])
    assert passes == 3
    assert torch.equal(changed, plain.run(model=loras[1])[0])
    assert seeing.run(model=loras[0])[1] == 0
    again, passes = seeing.run()
    assert passes == 3 and torch.equal(again, plain.run()[0])
    # weights that are patched in place, as older nodes do
    seeing.model.add_patches({}, 1.0)
    assert seeing.run()[1] == 3


def test_weights_that_change_in_mid_run_are_not_kept(bench: ReferenceBench) -> None:
    seeing = Seeing(bench, max_bytes=MUCH)
    hooks = comfy.hooks.create_hook_lora(make_lora(), 1.0, 0.0)
    seeing.both = [[[context, {**values, "hooks": hooks}]] for ((context, values),) in seeing.both]
    assert [seeing.run()[1] for _ in range(2)] == [3, 3]
    assert seeing.store.num_bytes == 0


def test_a_cancelled_pass_is_not_kept(bench: ReferenceBench) -> None:
    seeing, fails = Seeing(bench, max_bytes=MUCH), [True]
    wanted, _ = Seeing(bench).run()

    def behind(out: torch.Tensor, options: Any) -> torch.Tensor:
        if bench.host.reference_pass.WRITE_KEY in options and fails:
            fails.clear()
            raise comfy.model_management.InterruptProcessingException
        return out

    seeing.model.set_model_attn1_output_patch(behind)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        seeing.run()
    assert seeing.store.num_bytes == 0
    assert torch.equal(seeing.run()[0], wanted)


def test_nothing_is_left_after_unloading(bench: ReferenceBench) -> None:
    """Neither where ComfyUI unloads the weights, nor where the MODEL is dropped."""
    seeing = Seeing(bench, max_bytes=MUCH)
    seeing.run()
    (kept,) = {id(k): k for k in list(seeing.store._kept.values())[:1]}.values()
    watched = [weakref.ref(layer.key) for layer in kept.layers.values()]
    del kept
    comfy.model_management.unload_all_models()
    gc.collect()
    assert seeing.store.num_bytes == 0
    assert [each() for each in watched if each() is not None] == []
    assert seeing.run()[1] == 3
    store = weakref.ref(seeing.store)
    del seeing
    gc.collect()
    assert store() is None


def test_the_nodes_input(host: Host) -> None:
    setup, subject = Setup(host), make_subject(host, box="")
    seeing = setup.apply(subject, reuse_mb=64)
    first = setup.sample(*seeing)
    store = seeing[0].get_attachment("subject_diffusion_self_subject_attention").store
    assert 0 < store.num_bytes <= 64 * 2**20
    assert torch.equal(setup.sample(*seeing), first)
    assert torch.equal(setup.sample(*setup.apply(subject)), first)
    off = setup.apply(subject, reuse_mb=0)[0].get_attachment(
        "subject_diffusion_self_subject_attention"
    )
    assert off.store is None
