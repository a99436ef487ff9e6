"""Gradients through weights that ComfyUI casts for each call: the same numbers, no copy kept."""

from __future__ import annotations

import contextlib
from typing import Any

import comfy.ops
import comfy.patcher_extension
import pytest
import torch
from host_models import Host
from torch.multiprocessing.reductions import StorageWeakRef
from tuning_models import FAMILIES, Snapshot, TuningBench, tuning_bench

WRAPPERS = comfy.patcher_extension.WrappersMP
STORED = [torch.float8_e4m3fn, torch.bfloat16, torch.float16]


def cast_bench(host: Host, family: str, dtype: torch.dtype) -> TuningBench:
    with torch.inference_mode():
        return tuning_bench(host, family, dtype=dtype, manual_cast_dtype=torch.float32)


def watch_casts(monkeypatch: pytest.MonkeyPatch, model: Any) -> list[StorageWeakRef]:
    """Each matrix that is cast, in a list; every one is a copy."""
    casts: list[StorageWeakRef] = []
    cast = comfy.ops.cast_bias_weight

    def noted(layer: Any, *args: Any, **kwargs: Any) -> Any:
        made = cast(layer, *args, **kwargs)
        if made[0].ndim > 1:
            assert made[0].dtype != layer.weight.dtype
            casts.append(StorageWeakRef(made[0].untyped_storage()))
        return made

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", noted)
    return casts


@pytest.mark.parametrize("is_short", [False, True], ids=["enough memory", "activations outside"])
@pytest.mark.parametrize("dtype", STORED, ids=str)
def test_no_cast_weight_waits_for_the_gradient(
    host: Host, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, is_short: bool
) -> None:
    bench = cast_bench(host, "sd15", dtype)
    casts = watch_casts(monkeypatch, bench.model)
    model, calls, waiting = bench.model.clone(), [], []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if is_short and len(calls) == 1:
            raise torch.OutOfMemoryError("of memory")
        del casts[:]
        predicted = executor(*args, **kwargs)
        assert predicted.requires_grad and len(casts) > 50
        waiting.append(sum(not cast.expired() for cast in casts))
        return predicted

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "look", look)
    before = Snapshot(model)
    bench.run(bench.task(steps=1, num_sets=1, steps_per_set=0), model)
    before.assert_unchanged()
    assert waiting == [0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_is_the_one_of_weights_that_are_kept(
    host: Host, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """Bit for bit, stored in fp8."""
    bench = cast_bench(host, family, torch.float8_e4m3fn)
    task = bench.task(steps=2, num_sets=2)
    got = bench.run(task)
    monkeypatch.setattr(host.gradients, "cast_again", contextlib.nullcontext)
    assert same_numbers(got, bench.run(task))


def test_a_lora_that_is_added_for_each_call_counts(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ComfyUI does with weights that stay in the computer's memory."""
    bench = cast_bench(host, "sd15", torch.bfloat16)
    task = bench.task(steps=2, num_sets=1, steps_per_set=0)
    without = bench.run(task)
    layers = [m for m in bench.model.model.modules() if isinstance(m, torch.nn.Linear)]
    for number, layer in enumerate(layers):
        change = torch.randn(layer.weight.shape, generator=torch.manual_seed(number)) * 0.02
        monkeypatch.setattr(layer, "weight_function", [change.__add__])
    got = bench.run(task)
    monkeypatch.setattr(host.gradients, "cast_again", contextlib.nullcontext)
    assert same_numbers(got, bench.run(task))
    assert not same_numbers(got, without)


@pytest.mark.parametrize("call", ["by place", "by name", "one vector", "without a gradient"])
def test_a_layer_may_be_called_in_any_way(host: Host, call: str) -> None:
    with torch.inference_mode(False):
        layer = comfy.ops.manual_cast.Linear(6, 4, dtype=torch.bfloat16)
        layer.weight.data = torch.randn(4, 6, generator=torch.manual_seed(0)).bfloat16()
        layer.bias.data.zero_()
        layer.requires_grad_(False)
        x = torch.randn(6) if call == "one vector" else torch.randn(2, 3, 6)
        x.requires_grad_(call != "without a gradient")
        with host.cast_weights.cast_again([layer]):
            told = layer(input=x) if call == "by name" else layer(x)
            assert torch.equal(told, x @ layer.weight.float().T)
            if x.requires_grad:
                (gradient,) = torch.autograd.grad(told.sum(), [x])
                wanted = layer.weight.float().sum(0).expand_as(x)
                assert torch.allclose(gradient, wanted, atol=1e-6)
    assert "forward" not in vars(layer)


def test_stored_weights_stay_where_memory_is_short(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is carried out are activations; a Linear keeps a view of its weight, not the weight."""
    carried: list[torch.Tensor] = []
    outside = host.activation_memory._Outside
    monkeypatch.setattr(
        host.activation_memory, "_Outside", lambda tensor: carried.append(tensor) or outside(tensor)
    )
    with torch.inference_mode(False):
        layer = comfy.ops.disable_weight_init.Linear(6, 4)
        layer.requires_grad_(False)
        layer.weight.data.normal_()
        x = torch.randn(2, 3, 6, requires_grad=True)
        with host.cast_weights.cast_again([layer]), host.activation_memory.activations_outside():
            told = torch.sin(layer(torch.sin(x)))
            torch.autograd.grad(told.sum(), [x])
    assert len(carried) == 2
    assert all(tensor.data_ptr() != layer.weight.data_ptr() for tensor in carried)


def test_a_layer_that_does_not_cast_again_is_named(host: Host) -> None:
    bench = cast_bench(host, "sd15", torch.bfloat16)
    names = dict(bench.model.model.named_modules())
    layer = next(names[name] for name in names if name.endswith("attn2.to_k"))
    before, plain = Snapshot(bench.model), layer.forward

    def once(x: torch.Tensor) -> torch.Tensor:
        return plain(x) if len(x) else x.new_zeros(0, layer.out_features)

    layer.forward = once
    with pytest.raises(RuntimeError, match=r"expected a layer \(Linear\).*got 0 weights of it"):
        bench.run(bench.task(steps=1, num_sets=1, steps_per_set=0))
    assert layer.forward is once
    del layer.forward
    before.assert_unchanged()


def same_numbers(one: Any, other: Any) -> bool:
    pairs = zip((one.whole, *one.sets), (other.whole, *other.sets), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
