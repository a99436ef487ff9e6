"""Tuning an embedding on models of ComfyUI's classes, in its inference mode."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import comfy.utils
import pytest
import torch
from host_models import Host
from tuning_models import FAMILIES, Snapshot, TuningBench, tuning_bench

WRAPPERS = comfy.patcher_extension.WrappersMP


@pytest.fixture(scope="module")
def bench(host: Host) -> TuningBench:
    with torch.inference_mode():
        return tuning_bench(host)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_tuned_and_left_as_it_was(host: Host, family: str) -> None:
    """Weights made in inference mode, as ComfyUI's loaders leave them."""
    bench = tuning_bench(host, family)
    weights = list(bench.model.model.parameters())
    if family not in ("sdxl", "inpainting"):
        assert any(w.is_inference() and w.requires_grad for w in weights)
    before = Snapshot(bench.model)
    state = bench.run(bench.task(sizes=((16, 16), (12, 20))))
    before.assert_unchanged()
    assert torch.is_inference_mode_enabled()
    assert len(state.sets) == 4 and state.update == 7
    assert state.whole.shape == (5, bench.base.context_dim) and state.whole.dtype == torch.float32
    assert [number for number, _ in bench.updates] == list(range(1, 8))
    null = bench.base.text(4)[0][0][0, -5:]
    assert 0.0 < float((state.whole - null).abs().max()) <= 0.031  # 3 steps of Adam, 0.01 each


def test_the_gradient_is_the_slope_of_the_loss(bench: TuningBench) -> None:
    """By differences of the loss itself, along the gradient."""
    task = bench.task(steps=1, num_sets=1, steps_per_set=0, regularization=0.0)
    start = bench.run(task)
    gradient = start.mean / 0.1  # Adam's first moment after one step is a tenth of it
    first = bench.host.core("hifi_tuner").first_state
    losses = []
    for sign in (1, -1):
        state = first(bench.base.text(4)[0][0][0, -5:].clone())
        state.vectors += sign * 0.05 * gradient / gradient.norm()
        bench.run(task, state=state)
        losses.append(bench.updates[0][1])
    slope = (losses[0] - losses[1]) / 0.1
    assert slope == pytest.approx(float(gradient.norm()), rel=0.02)


def test_the_loss_falls(bench: TuningBench) -> None:
    """At one noise level, where losses compare."""
    task = bench.task(steps=0, steps_per_set=60, num_sets=1, regularization=0.0, learning_rate=0.05)
    bench.run(task)
    losses = [loss for _, loss in bench.updates]
    assert sum(losses[-20:]) < 0.98 * sum(losses[:20])


@pytest.mark.parametrize(
    ("dtype", "cast"),
    [
        (torch.float16, None),
        (torch.bfloat16, None),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.bfloat16),
    ],
)
def test_lower_precision_points_the_same_way(
    host: Host, dtype: torch.dtype, cast: torch.dtype | None
) -> None:
    """As stored and computed, and cast for computing."""
    exact = tuning_bench(host, "sd15")
    task = exact.task(steps=1, num_sets=1, steps_per_set=0, regularization=0.0)
    wanted = exact.run(task).mean
    low = tuning_bench(host, "sd15", dtype=dtype, manual_cast_dtype=cast)
    computed, before = [], Snapshot(low.model)
    model = low.model.clone()

    def note(args: Any) -> Any:
        computed.append(args["h"].dtype)
        return args["h"], args["hsp"]

    model.set_model_output_block_patch(lambda h, hsp, options: note({"h": h, "hsp": hsp}))
    got = low.run(task, model).mean
    before.assert_unchanged()
    assert set(computed) == {cast or dtype}
    assert float(torch.cosine_similarity(got.flatten(), wanted.flatten(), dim=0)) > 0.99
    assert float(got.norm() / wanted.norm()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_cancel_and_go_on(bench: TuningBench, stop: int) -> None:
    """Cancelled after an update: the model as it was, and the rest is what it would have been."""
    task = bench.task()
    whole, losses = bench.run(task), list(bench.updates)
    before, kept = Snapshot(bench.model), []

    def cancel(tuner: Any, update: Any) -> None:
        kept[:] = [tuner.state]
        if update.number == stop:
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        bench.run(task, on_update=cancel)
    before.assert_unchanged()
    done = list(bench.updates)
    rest = bench.run(task, state=copy.deepcopy(kept[0]))
    assert done + bench.updates == losses
    assert torch.equal(rest.whole, whole.whole)
    assert torch.equal(torch.stack(rest.sets), torch.stack(whole.sets))


def test_an_error_leaves_the_model_as_it_was(bench: TuningBench) -> None:
    """Out of memory in the middle of the model."""
    model, before = bench.model.clone(), Snapshot(bench.model)

    def full(executor: Any, *args: Any, **kwargs: Any) -> Any:
        executor(*args, **kwargs)
        raise torch.OutOfMemoryError("of memory")

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "full", full)
    with pytest.raises(torch.OutOfMemoryError):
        bench.run(bench.task(), model)
    before.assert_unchanged()
    assert torch.is_inference_mode_enabled()


def test_where_memory_is_short_it_goes_on(bench: TuningBench) -> None:
    """From the update that did not fit, with activations kept outside; to the same numbers."""
    task, model, calls = bench.task(), bench.model.clone(), []
    wanted, losses = bench.run(task), list(bench.updates)

    def full_once(executor: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("of memory")
        return executor(*args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "full", full_once)
    state = bench.run(task, model)
    assert bench.updates == losses
    assert torch.equal(torch.stack(state.sets), torch.stack(wanted.sets))


@pytest.mark.parametrize("method", ["adapter", "self-subject-attention"])
def test_beside_other_methods_of_the_pack(
    host: Host, bench: TuningBench, tmp_path: Path, method: str
) -> None:
    """On the same MODEL: gradients pass them, too."""
    model = bench.base.attached()
    if method == "adapter":
        base = host.make_base()
        loaded = host.make_adapter(base, tmp_path)
        model, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    task = bench.task(steps=1, num_sets=1)
    bench.run(task, model)  # ComfyUI puts the adapter's weights on it
    before = Snapshot(model)
    assert bench.run(task, model).whole.isfinite().all()
    before.assert_unchanged()


def test_the_global_noise_is_untouched(bench: TuningBench) -> None:
    torch.manual_seed(3)
    wanted = torch.randn(4)
    torch.manual_seed(3)
    bench.run(bench.task())
    assert torch.equal(torch.randn(4), wanted)


def test_memory_is_made_free_for_the_largest_picture(bench: TuningBench) -> None:
    model, shapes = bench.model.clone(), []

    def note(executor: Any, model: Any, noise_shape: Any, *args: Any, **kwargs: Any) -> Any:
        shapes.append(tuple(noise_shape[-2:]))
        return executor(model, noise_shape, *args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.PREPARE_SAMPLING, "note", note)
    bench.run(bench.task(sizes=((8, 8), (16, 24), (16, 16)), steps=1, steps_per_set=0), model)
    assert shapes == [(16, 24)]


def test_sdxl_is_told_each_pictures_size(host: Host) -> None:
    bench = tuning_bench(host, "sdxl")
    model, seen = bench.model.clone(), []

    def note(executor: Any, x: Any, t: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((tuple(x.shape[-2:]), kwargs["y"].detach().clone()))
        return executor(x, t, *args, **kwargs)

    model.add_wrapper_with_key(WRAPPERS.APPLY_MODEL, "note", note)
    bench.run(bench.task(sizes=((16, 16), (12, 20)), steps=8, steps_per_set=0), model)
    sizes = {size: y for size, y in seen}
    assert set(sizes) == {(16, 16), (12, 20)}
    assert not torch.equal(sizes[16, 16], sizes[12, 20])
