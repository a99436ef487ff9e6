"""The loop in this process: what it refuses, survives, says and leaves behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from own_pictures import write_pictures
from PIL import Image
from safetensors.torch import load_file, save_file
from training_runs import assert_same_end, last_checkpoint, log_rows, train_arguments

from subject_diffusion_core import checkpoint
from training.__main__ import main
from training.bases.loading import random_base
from training.bases.vision import vision_shape
from training.dataset.batches import BatchStream, step_positions
from training.dataset.catalogue import open_catalogue
from training.dataset.samples import SubjectDataset
from training.loop.optimizers import OffloadedAdamW, learning_rate, trainable
from training.methods.subject_diffusion.assembly import build_model, choose_trainable
from training.recipes import recipe_named, with_settings


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    listed = write_pictures(folder / "pictures", count=12)
    out = ["--out", str(folder / "shards"), "--recipe", "debug_cpu", "--variants", "2"]
    main(["precompute", "--jsonl", str(listed), *out, "--held-out", "1"])
    return folder / "shards" / "train"


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """accelerate keeps one state a process; each of these tests is a run of its own."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def train(shards: Path, out: Path, *settings: str) -> None:
    main(train_arguments(shards, out, *settings))


def test_resumed_equals_uninterrupted(shards: Path, tmp_path: Path) -> None:
    train(shards, tmp_path / "whole", "steps=6", "checkpoint_every=3")
    train(shards, tmp_path / "cut", "steps=4", "checkpoint_every=4")
    with pytest.raises(SystemExit, match="warmup_steps: expected 1 as in"):
        train(shards, tmp_path / "cut", "steps=6", "warmup_steps=3")
    train(shards, tmp_path / "cut", "steps=6", "checkpoint_every=3")
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_8_bit_moments_survive_a_checkpoint(shards: Path, tmp_path: Path) -> None:
    settings = ("optimizer=adamw8bit", "checkpoint_every=2")
    train(shards, tmp_path / "whole", "steps=4", *settings)
    train(shards, tmp_path / "cut", "steps=2", *settings)
    train(shards, tmp_path / "cut", "steps=4", *settings)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")
    path = last_checkpoint(tmp_path / "cut") / "optimizer.pt"
    states = torch.load(path, weights_only=True)["state"].values()
    moments = [state["__bnb_optimizer_quant_state__"]["state1"] for state in states]
    assert {m.dtype for m in moments if m.numel() > 4096} == {torch.uint8}


def test_run_folder_tells_everything(shards: Path, tmp_path: Path) -> None:
    train(shards, tmp_path / "run", "steps=2", "num_subjects=3", "tensorboard=true")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["recipe"]["num_subjects"] == 3 and config["places"]["data"] == str(shards)
    state = json.loads((last_checkpoint(tmp_path / "run") / "state.json").read_text())
    assert state["recipe"] == config["recipe"] and state["step"] == 2
    row = log_rows(tmp_path / "run")[-1]
    assert row["samples_per_second"] > 0 and row["memory_gb"] > 0 and "rate" in row
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_damaged_checkpoint_is_passed_over(shards: Path, tmp_path: Path) -> None:
    train(shards, tmp_path / "whole", "steps=4", "checkpoint_every=2")
    run = tmp_path / "cut"
    train(shards, run, "steps=4", "checkpoint_every=2")
    weights = last_checkpoint(run) / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.warns(UserWarning, match="expected a whole checkpoint"):
        train(shards, run, "steps=4", "checkpoint_every=2")
    assert_same_end(tmp_path / "whole", run)


def test_full_disk_costs_only_the_new_checkpoint(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(shards, run, "steps=2", "checkpoint_every=2")
    before = {p: p.read_bytes() for p in last_checkpoint(run).iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(SystemExit, match=r"expected room for a checkpoint .* from step 2\."):
            train(shards, run, "steps=4", "checkpoint_every=2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, previous)
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["step-00000002"]
    assert {p: p.read_bytes() for p in last_checkpoint(run).iterdir()} == before
    train(shards, run, "steps=4", "checkpoint_every=2")
    train(shards, tmp_path / "whole", "steps=4", "checkpoint_every=2")
    assert_same_end(tmp_path / "whole", run)


def nan_weights(run: Path) -> None:
    """Put infinity into the projector of a checkpoint, so that every loss is NaN."""
    path = last_checkpoint(run) / "weights.safetensors"
    weights = load_file(path)
    weights["mlp.fc2.bias"] = torch.full_like(weights["mlp.fc2.bias"], torch.inf)
    save_file(weights, path)


def test_steps_without_finite_losses_change_nothing_and_end_the_run(
    shards: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = ("drop_text=0", "drop_image=0", "drop_both=0")
    train(shards, run, "steps=2", "checkpoint_every=2", *settings)
    nan_weights(run)
    before = load_file(last_checkpoint(run) / "weights.safetensors")
    with (
        pytest.warns(UserWarning, match=r"step 3: not finite in 00000\.tar/"),
        pytest.raises(SystemExit, match="expected finite losses, got 10 steps in a row"),
    ):
        train(shards, run, "steps=20", "checkpoint_every=5", *settings)
    after = load_file(last_checkpoint(run) / "weights.safetensors")
    assert last_checkpoint(run).name == "step-00000010"
    assert all(torch.equal(before[name], after[name]) for name in before)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "not finite" and events[0]["samples"]


def test_a_single_bad_step_is_left_out(shards: Path, tmp_path: Path, monkeypatch) -> None:
    from training.methods.objective import Objective

    original = Objective.__call__

    def broken_once(self, batch):
        mse, maps = original(self, batch)
        return (mse * float("nan") if 4 in batch.positions else mse), maps

    monkeypatch.setattr(Objective, "__call__", broken_once)
    with pytest.warns(UserWarning, match="step 2: not finite"):
        train(shards, tmp_path / "run", "steps=4", "checkpoint_every=4")
    weights = load_file(last_checkpoint(tmp_path / "run") / "weights.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    rows = log_rows(tmp_path / "run")
    assert rows[1]["left_out"] == 1 and "loss" not in rows[1]
    assert np.isfinite([row["loss"] for row in (rows[0], *rows[2:])]).all()


def test_dead_data_reader_is_replaced(shards: Path, tmp_path: Path) -> None:
    recipe = replace(recipe_named("debug_cpu"), num_workers=1)
    base = random_base(recipe)
    catalogue = open_catalogue(shards, tmp_path / "index")
    data = SubjectDataset(catalogue, recipe, vision_shape(recipe, base), base)
    stream = BatchStream(data, first_step=3, process=0, num_processes=1)
    first = stream.next_step()
    assert [b.positions for b in first] == step_positions(recipe, 3, 0, 1)
    reader = stream.batches._workers[0]
    os.kill(reader.pid, signal.SIGKILL)
    reader.join()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        following = [stream.next_step() for _ in range(6)]
    assert any("a data reader died" in str(w.message) for w in caught)
    positions = [p for step in following for b in step for p in b.positions]
    assert positions == list(range(16, 16 + 24))


def test_second_writer_is_refused(shards: Path, tmp_path: Path) -> None:
    from training.loop.launch import only_writer

    with only_writer(tmp_path / "run"), pytest.raises(SystemExit, match="another process"):
        train(shards, tmp_path / "run", "steps=1")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--data", "nowhere"], "--data: expected a path on this machine, got nowhere"),
        (["--set", "map_loss=l3"], "map_loss: expected one of"),
        (
            ["--recipe", "paper_sd2", "--set", "warmup_steps=0"],
            "--base: expected a diffusers folder or a checkpoint file",
        ),
        (["--recipe", "one_gpu_sd3"], "recipe: expected one of paper_sd2"),
        (["--init", "nowhere.safetensors"], "--init: expected a path"),
        (["--set", "wandb=true"], "wandb: expected the package wandb"),
        (["--set", "optimizer=adamw8bit"], "optimizer: expected the package bitsandbytes"),
    ],
)
def test_mistakes_end_in_one_sentence(
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    sentence: str,
) -> None:
    for package in ("bitsandbytes", "wandb"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    words = [*train_arguments(shards, tmp_path / "run", "steps=1"), *arguments]
    with pytest.raises(SystemExit, match=f"error: .*{sentence}"):
        main(words)


def test_sample_sheets_change_nothing(shards: Path, tmp_path: Path) -> None:
    train(shards, tmp_path / "plain", "steps=3")
    train(shards, tmp_path / "sheets", "steps=3", "sheet_every=2", "sheet_subjects=2")
    (sheet,) = (tmp_path / "sheets" / "sheets").glob("*.png")
    pixels = np.asarray(Image.open(sheet))
    assert sheet.name == "step-00000002.png" and pixels.shape[0] > 128 and pixels.std() > 10
    weights = [
        load_file(last_checkpoint(tmp_path / n) / "weights.safetensors")
        for n in ("plain", "sheets")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    "settings",
    [
        ("precision=bfloat16", "gradient_checkpointing=true"),
        ("text_encoder=lora", "text_lora_rank=4", "map_loss=l1"),
        ("text_encoder=frozen", "adapter=false", "ema_decay=0"),
        ("image_cls=false", "location_control=false", "conv_in=false", "map_loss=off"),
        ("offload_optimizer=true", "ema_device=cpu", "ema_every=2", "num_subjects=8"),
        ("box_coordinates=false", "schedule=cosine", "weight_decay=0.1", "token_table=true"),
    ],
    ids=lambda settings: settings[0],
)
def test_options_train_and_export(shards: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    train(shards, tmp_path / "run", "steps=2", *settings)
    assert np.isfinite([row["loss"] for row in log_rows(tmp_path / "run")]).all()
    out = tmp_path / "adapter.safetensors"
    main(["export", "--run", str(tmp_path / "run"), "--out", str(out)])
    adapter = checkpoint.load(out)
    assert adapter.config.provenance["step"] == 2
    recipe = with_settings(recipe_named("debug_cpu"), ["steps=2", *settings])
    assert adapter.config.provenance["recipe"] == recipe.as_dict()
    assert ("text_encoder" in adapter.config.trained_parts) == (recipe.text_encoder != "frozen")


@pytest.mark.parametrize("has_bf16", [True, False])
def test_emulated_bf16_is_named(
    shards: Path, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str], has_bf16: bool
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: has_bf16)
    train(shards, tmp_path / "run", "precision=bfloat16", "steps=1")
    said = "--set precision=float32" in capsys.readouterr().out
    assert said == (not has_bf16 and not torch.cuda.is_available())


def test_training_from_pictures_alone(shards: Path, tmp_path: Path) -> None:
    listed = shards.parents[1] / "pictures" / "pictures.jsonl"
    out = ["--out", str(tmp_path / "s"), "--recipe", "debug_cpu", "--features", "none"]
    main(["precompute", "--jsonl", str(listed), *out])
    train(tmp_path / "s" / "train", tmp_path / "run", "steps=2")
    assert len(log_rows(tmp_path / "run")) == 2


def test_trainable_parts_are_the_papers(shards: Path) -> None:
    recipe = recipe_named("debug_cpu")
    base = random_base(recipe)
    model = build_model(base, recipe, vision_shape(recipe, base))
    choose_trainable(model, recipe)
    names = [name for name, _ in trainable(model)]
    for part in ("fuser", "attn2.to_k", "attn2.to_v", "conv_in", "mlp.fc1", "position_net"):
        assert any(part in name for name in names), part
    assert any(name.startswith("text_encoder.") for name in names)
    for part in ("attn1", "attn2.to_q", "resnets", "token_embedding", "conv_out", "time_emb"):
        assert not any(part in n and "fuser" not in n for n in names), part


def test_learning_rate_warms_up() -> None:
    recipe = replace(recipe_named("debug_cpu"), warmup_steps=4, learning_rate=1.0)
    assert [learning_rate(recipe, step) for step in (0, 1, 3, 30)] == [0.25, 0.5, 1.0, 1.0]


def test_offloaded_adamw_equals_adamw() -> None:
    torch.manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(3, 4)), torch.nn.Parameter(torch.randn(4))]
    copies = [torch.nn.Parameter(w.detach().clone()) for w in weights]
    arguments = {"lr": 0.1, "betas": (0.9, 0.999)}
    plain = torch.optim.AdamW([{"params": weights, "weight_decay": 0.1}], **arguments, fused=True)
    offloaded = OffloadedAdamW([{"params": copies, "weight_decay": 0.1}], **arguments)
    for step in range(3):
        if step == 2:  # its state survives a checkpoint
            state = offloaded.state_dict()
            offloaded = OffloadedAdamW([{"params": copies, "weight_decay": 0.1}], **arguments)
            offloaded.load_state_dict(state)
        for a, b in zip(weights, copies, strict=True):
            a.grad = torch.randn(a.shape)
            b.grad = a.grad.clone()
        plain.step()
        offloaded.step()
    assert all(torch.equal(a, b) for a, b in zip(weights, copies, strict=True))
