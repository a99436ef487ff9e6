"""A step's cost counted without a GPU, against real tensors and PyTorch's own allocator."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from training.__main__ import main
from training.bases.architectures import TINY_WIDTH, architecture_of
from training.dataset.batches import MicroBatch
from training.loop.step_cost import (
    AllocationMeter,
    StepMemory,
    backpropagate,
    count_flops,
    count_memory,
    count_sample_flops,
    nothing_computed,
    peak_of_step,
    prepare_step,
)
from training.methods.objective import Objective
from training.recipes import TrainingRecipe, recipe_named, with_settings

GIB = 2**30
DEBUG = with_settings(recipe_named("debug_cpu"), ["resolution=128"])


def peak_of_allocator(objective: Objective, batch: MicroBatch, recipe: TrainingRecipe) -> int:
    """The most that a forward and a backward pass hold, from PyTorch's record of allocations."""
    cpu = torch.profiler.ProfilerActivity.CPU
    with torch.profiler.profile(activities=[cpu], profile_memory=True) as profile:
        backpropagate(objective, batch, recipe)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def test_the_meter_counts_what_lives_and_forgets_what_is_freed() -> None:
    meter = AllocationMeter()
    with nothing_computed(), meter:
        kept = torch.empty(1000, dtype=torch.float32)  # 4000 bytes, in units of 512: 4096
        view = kept.reshape(10, 100)[2:]
        freed = torch.empty(1024, dtype=torch.bfloat16)
        del freed
        assert (meter.live, meter.peak) == (4096, 4096 + 2048)
        del kept
        assert meter.live == 4096  # the view still needs it
        del view
    assert (meter.live, meter.peak) == (0, 4096 + 2048)


@pytest.mark.parametrize("setting", ["map_loss=balanced_l1", "gradient_checkpointing=true"])
def test_a_step_without_values_is_counted_like_one_with_them(setting: str) -> None:
    recipe = with_settings(DEBUG, [setting])
    model, objective, batch = prepare_step(recipe)
    weights, peak = peak_of_step(model, objective, batch, recipe)
    counted = count_memory(recipe)
    assert counted.weights == weights
    assert counted.weights + counted.gradients + counted.activations == peak


def test_arithmetic_without_values_is_that_with_them() -> None:
    _, objective, batch = prepare_step(DEBUG)
    once = count_flops(lambda: backpropagate(objective, batch, DEBUG)) // DEBUG.micro_batch_size
    assert count_sample_flops(DEBUG) == once
    again = count_sample_flops(with_settings(DEBUG, ["gradient_checkpointing=true"]))
    assert 1.2 * once < again < 1.4 * once  # most of the forward pass once more


def test_arithmetic_of_a_known_product() -> None:
    layer = nn.Linear(30, 20)
    forward = 2 * 10 * 20 * 30
    assert count_flops(lambda: layer(torch.zeros(10, 30))) == forward
    assert count_flops(lambda: layer(torch.zeros(10, 30)).sum().backward()) == 2 * forward


def test_the_count_is_near_what_the_allocator_gives_out() -> None:
    recipe = dataclasses.replace(DEBUG, global_batch_size=2, resolution=256)
    _, objective, batch = prepare_step(recipe)
    allocated = peak_of_allocator(objective, batch, recipe)
    counted = count_memory(recipe)
    assert allocated == pytest.approx(counted.gradients + counted.activations, rel=0.03)


def test_settings_move_their_part() -> None:
    plain = count_memory(DEBUG)
    trained = plain.average // 4
    assert plain.moments == 8 * trained and plain.buckets == 0
    on_cpu = with_settings(DEBUG, ["offload_optimizer=true", "ema_device=cpu", "num_processes=2"])
    moved = count_memory(on_cpu)
    assert (moved.moments, moved.average, moved.buckets) == (0, 0, plain.gradients)
    small = ["optimizer=adamw8bit", "ema_decay=0", "gradient_checkpointing=true"]
    saved = count_memory(with_settings(DEBUG, small))
    assert (saved.moments, saved.average) == (2 * trained, 0)
    assert saved.activations < plain.activations


@pytest.mark.parametrize(
    ("name", "gigabytes"), [("one_gpu_sd15", 12), ("one_gpu_sd2", 24), ("paper_sd2", 80)]
)
def test_a_recipe_leaves_a_third_of_its_gpu_to_what_is_not_counted(
    name: str, gigabytes: int
) -> None:
    memory = count_memory(recipe_named(name))
    assert memory.weights > 2.5 * GIB  # the whole model, not a part of it
    assert memory.total < gigabytes * GIB * 2 / 3


def test_total_and_bytes() -> None:
    parts = dict(weights=1, gradients=2, buckets=4, moments=8, average=16, activations=32)
    assert StepMemory(**parts).total == 63
    assert architecture_of(DEBUG) is TINY_WIDTH


def test_the_command_prints_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    main(["recipes", "debug_cpu", "--cost", "--set", "micro_batch_size=1"])
    lines = capsys.readouterr().out.splitlines()
    assert "micro-batch 1, 2 subjects" in lines[0]
    assert "TFLOP a sample, so 40 steps of 4 take" in lines[-1]
    assert [line.split()[0] for line in lines[1:-1]] == [
        "weights", "gradients", "buckets", "moments", "average", "activations", "together",
    ]  # fmt: skip
    assert all(float(line.split()[1]) >= 0 for line in lines[1:-1])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--cost"], "--cost: expected a recipe for Stable Diffusion, got none"),
        (["tiny", "--cost"], "--cost: expected a recipe for Stable Diffusion, got tiny"),
        (["tiny_adapter", "--cost"], "base_family: expected one of sd2, sd15, got 'tiny'"),
    ],
)
def test_what_cannot_be_counted_is_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["recipes", *arguments])
    assert sentence in f"{refusal.value}{capsys.readouterr().err}"
