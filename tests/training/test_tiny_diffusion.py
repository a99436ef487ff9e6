"""The diffusion stages: resuming, losses, the files they end in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from tiny_tables import batch_maker, small_recipe

from subject_diffusion_core import checkpoint
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_vision import TinyVision
from training.methods.subject_diffusion.model import SubjectDiffusionModel
from training.networks.attention import use_plain_attention
from training.toy.autoencoder import build_autoencoder
from training.toy.build import build_model
from training.toy.diffusion import DiffusionStep, noise_scheduler, train_diffusion, weighted_mse
from training.toy.export import (
    adapter_from_model,
    base_from_model,
    freeze_base,
    load_adapter_into,
    load_base_into,
)
from training.toy.recipe import TinyRecipe
from training.toy.stages import load_frozen_base


def build(recipe: TinyRecipe) -> SubjectDiffusionModel:
    return build_model(recipe, batch_maker(recipe).vocabulary, seed=5)


class Killed(Exception):
    """Stands for the end of the process right after a checkpoint."""


def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path) -> None:
    recipe = small_recipe()

    def kill(step: int, _weights: object) -> None:
        if step == 2:
            raise Killed

    run = (batch_maker(recipe), recipe.joint)
    whole = train_diffusion(build(recipe), *run, tmp_path / "whole", "joint")
    with pytest.raises(Killed):
        train_diffusion(build(recipe), *run, tmp_path / "cut", "joint", on_checkpoint=kill)
    resumed = train_diffusion(build(recipe), *run, tmp_path / "cut", "joint")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_finished_stage_is_not_trained_again(tmp_path: Path) -> None:
    recipe = small_recipe(steps=2)
    run = (batch_maker(recipe), recipe.joint, tmp_path, "joint")
    first = train_diffusion(build(recipe), *run)
    log = (tmp_path / "joint.pt").stat().st_mtime_ns
    second = train_diffusion(build(recipe), *run)
    assert (tmp_path / "joint.pt").stat().st_mtime_ns == log
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_plain_attention_equals_diffusers() -> None:
    recipe = small_recipe()
    model = build(recipe).eval()
    batch = batch_maker(recipe).draw(0)
    steps = torch.tensor([10, 200, 500, 900])
    others = {k: v for k, v in model.unet.attn_processors.items() if ".fuser." in k}
    names = [name for name in model.unet.attn_processors if name not in others]
    with torch.no_grad():
        model.unet.set_attn_processor({**others, **{name: AttnProcessor() for name in names}})
        expected = model(batch.latents, steps, batch.conditioning)
        use_plain_attention(model.unet)
        got = model(batch.latents, steps, batch.conditioning)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_loss_reaches_every_trainable_part() -> None:
    recipe = small_recipe(drop_text=0.0, drop_image=0.0, drop_both=0.0, base_only=0.0)
    model = build(recipe)
    freeze_base(model)
    step = DiffusionStep(
        model, use_plain_attention(model.unet), noise_scheduler(), recipe.joint, torch.float32
    )
    loss, values = step(batch_maker(recipe).draw(0), noise_seed=1)
    loss.backward()
    untouched = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert untouched == []
    assert values["mse"] > 0
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert any("attn1" in name for name in frozen)
    assert not any("fuser" in name or "attn2.to_k" in name for name in frozen)


def test_weighted_mse_by_hand() -> None:
    prediction, target = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 2.0]]]])
    mask = torch.tensor([[[[0.0, 1.0]]]])
    # (1 * 1 + 3 * 4) / 2 over a mean weight of 2
    assert weighted_mse(prediction, target, mask, 3.0).item() == pytest.approx(6.5 / 2)


def test_files_restore_the_model(tmp_path: Path) -> None:
    recipe = small_recipe()
    maker = batch_maker(recipe)
    model = build(recipe)
    autoencoder, vision = build_autoencoder(recipe.autoencoder), TinyVision()
    base = base_from_model(model, autoencoder, vision, maker.vocabulary, recipe, {"seed": 5})
    tiny_base.save(tmp_path / "base.safetensors", base)
    load_frozen_base(model, tmp_path / "base.safetensors", maker.vocabulary)
    checkpoint.save(
        tmp_path / "adapter.safetensors", adapter_from_model(model, maker.vocabulary, recipe, {})
    )
    restored = build_model(recipe, maker.vocabulary, seed=6)
    load_base_into(restored, tiny_base.load(tmp_path / "base.safetensors"), maker.vocabulary)
    load_adapter_into(restored, checkpoint.load(tmp_path / "adapter.safetensors"))
    batch, steps = maker.draw(0), torch.tensor([10, 200, 500, 900])
    with torch.no_grad():
        expected = model.eval()(batch.latents, steps, batch.conditioning)
        got = restored.eval()(batch.latents, steps, batch.conditioning)
    assert (got - expected).norm() / expected.norm() < 2e-3  # the adapter's file is fp16
