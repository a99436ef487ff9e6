"""Each switched-off part: what the model ignores, what is trained, what the file says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_parts import (
    small_base,
    small_batch,
    small_model,
    small_recipe,
    small_world,
    write_files,
)

from benchmarks.ablation.run import cut_adapter, cut_grounding
from benchmarks.ablation.variants import BY_NAME, VARIANTS, Variant
from subject_diffusion_core import checkpoint
from training.bases.encoders import FrozenEncoders
from training.dataset.batches import MicroBatch
from training.evaluation.generation import load_generator
from training.methods.conditioning import Conditioning, conditioning_of
from training.methods.objective import Objective
from training.methods.subject_diffusion.assembly import choose_trainable, load_adapter
from training.methods.subject_diffusion.model import SubjectDiffusionModel
from training.methods.subject_diffusion.sampling import SamplingRule
from training.networks.fused_attention import use_fused_attention
from training.recipes import TrainingRecipe
from training.toy.files import ADAPTER_NAME, recipe_of_file
from training.toy.recipe import TinyRecipe

KEPT = {
    "drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0, "base_only": 0.0, "same_view": 1.0,
    "unknown_label": 0.0,
}  # fmt: skip
STEPS = torch.tensor([10, 200, 500, 900])


def small() -> TinyRecipe:
    return small_recipe(**KEPT)


def stage_without(name: str) -> TrainingRecipe:
    return BY_NAME[name].recipe_of(small().adapter)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> MicroBatch:
    """Four samples with all conditions, and noise for latents."""
    shards = small_world(tmp_path_factory.mktemp("world") / "shards")
    batch = small_batch(shards, small(), small().adapter)
    del batch.tensors["pixels"]
    batch.tensors["latents"] = torch.randn(4, 24, 16, 16, generator=torch.manual_seed(0))
    return batch


def live_model(stage: TrainingRecipe) -> SubjectDiffusionModel:
    """An untrained model in which every part acts."""
    model = small_model(small(), stage, seed=4)
    with torch.no_grad():
        model.unet.conv_in.weight[:, -1] = 0.2
        for name, parameter in model.named_parameters():
            if ".alpha_" in name:
                parameter.fill_(0.7)
    return model.eval()


def moved_boxes(c: Conditioning) -> Conditioning:
    return replace(c, subject_boxes_xyxy=c.subject_boxes_xyxy * 0.5)


def other_mask(c: Conditioning) -> Conditioning:
    return replace(c, location_mask=1 - c.location_mask)


def other_patches(c: Conditioning) -> Conditioning:
    return replace(c, patch_embeds=c.patch_embeds.flip(0) + 1)


def other_cls(c: Conditioning) -> Conditioning:
    return replace(c, image_embeds=c.image_embeds.flip(0) + 1)


CHANGES = {
    "no_location_control": other_mask,
    "no_box_coordinates": moved_boxes,
    "no_adapter": other_patches,
    "no_image_cls": other_cls,
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_model_ignores_what_is_switched_off_and_nothing_else(
    name: str, batch: MicroBatch
) -> None:
    latents, told = batch.tensors["latents"], conditioning_of(batch.tensors)
    model = live_model(stage_without(name))
    for other, change in CHANGES.items():
        with torch.no_grad():
            before, after = model(latents, STEPS, told), model(latents, STEPS, change(told))
        blind = other == name or (name, other) == ("no_adapter", "no_box_coordinates")
        assert torch.equal(before, after) == blind, other


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_the_files_give_back_the_trained_variant(
    variant: Variant, batch: MicroBatch, tmp_path: Path
) -> None:
    stage = stage_without(variant.name)
    model = write_files(tmp_path, live_model(stage), small(), stage)
    loaded = load_generator(tmp_path, SamplingRule(steps=2)).model
    latents, told = batch.tensors["latents"], conditioning_of(batch.tensors)
    vocabulary = small_base(small()).vocabulary
    told = replace(told, token_ids=torch.tensor([0, *vocabulary.token_ids])[told.token_ids])
    with torch.no_grad():
        expected, got = model(latents, STEPS, told), loaded(latents, STEPS, told)
    assert (got - expected).norm() / expected.norm() < 2e-3  # the file is fp16
    adapter = checkpoint.load(tmp_path / ADAPTER_NAME)
    for switch in ("location_control", "box_coordinates", "patch_positions", "query_positions"):
        assert getattr(adapter.config, switch) == getattr(stage, switch), switch


def objective_of(model: SubjectDiffusionModel, stage: TrainingRecipe) -> Objective:
    watched = use_fused_attention(model.unet)
    encoders, device = FrozenEncoders(None, None), torch.device("cpu")
    return Objective(model, watched, small_base(small()), stage, encoders, device)


def test_a_shift_moves_the_timesteps_that_the_model_sees(batch: MicroBatch) -> None:
    """Below 1 towards the picture, above towards noise, 1 leaves them."""
    seen = []
    for shift in (1.0, 0.4, 3.0):
        stage = replace(small().joint, timestep_shift=shift)
        model = small_model(small(), stage)
        model.register_forward_pre_hook(lambda _model, inputs: seen.append(inputs[1].double()))
        with torch.no_grad():
            objective_of(model, stage)(batch)
    own, fine, early = ((steps + 0.5) / 1000 for steps in seen)
    for shift, moved in ((0.4, fine), (3.0, early)):
        wanted = shift * own / (1 + (shift - 1) * own)
        torch.testing.assert_close(moved, wanted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_what_is_trained_gets_gradients_and_what_is_off_is_frozen(
    variant: Variant, batch: MicroBatch
) -> None:
    stage = stage_without(variant.name)
    model = live_model(stage)
    choose_trainable(model, stage)
    mse, maps = objective_of(model, stage)(batch)
    (mse + stage.map_loss_weight * maps).backward()
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert any("fuser" in name for name in trained) == stage.adapter
    assert any("position_net" in name for name in trained) == stage.adapter
    assert any(name.startswith("mlp.") for name in trained) == stage.image_cls
    assert not any("attn1" in name for name in trained)
    assert (float(maps.detach()) == 0) == (stage.map_loss == "off")


def test_both_map_losses_differ(batch: MicroBatch) -> None:
    losses = {}
    for name in ("full", "plain_l1_map_loss", "no_map_loss"):
        stage = stage_without(name)
        with torch.no_grad():
            losses[name] = [
                float(part.detach()) for part in objective_of(live_model(stage), stage)(batch)
            ]
    assert len({maps for _, maps in losses.values()}) == 3
    assert len({mse for mse, _ in losses.values()}) == 1


@pytest.mark.parametrize("name", ["full", "no_box_coordinates", "no_patch_positions"])
def test_a_trained_adapter_starts_a_variant_without_its_columns(
    name: str, batch: MicroBatch, tmp_path: Path
) -> None:
    stage = stage_without(name)
    source = write_files(tmp_path, live_model(small().adapter), small(), small().adapter)
    adapter = cut_adapter(checkpoint.load(tmp_path / ADAPTER_NAME), stage)
    checkpoint.save(tmp_path / "cut.safetensors", adapter)
    model = small_model(small(), stage, seed=9)
    load_adapter(model, checkpoint.load(tmp_path / "cut.safetensors"), "cut")
    kept = 200 + (64 if model.shape.box_coordinates else 0)
    weight, own = source.grounding.linears_image.fc1.weight, model.grounding.linears_image.fc1
    assert own.in_features == (kept if name != "full" else 328)
    torch.testing.assert_close(own.weight[:, :kept], weight[:, :kept], atol=1e-3, rtol=1e-3)
    told = conditioning_of(batch.tensors)
    assert model(batch.tensors["latents"], STEPS, told).isfinite().all()


def test_patch_columns_are_cut_behind_the_boxs(tmp_path: Path) -> None:
    full = live_model(small().adapter)
    write_files(tmp_path, full, small(), small().adapter)
    adapter = checkpoint.load(tmp_path / ADAPTER_NAME)
    only_patches = replace(full.shape, box_coordinates=False)
    cut = cut_grounding(adapter.grounding, adapter.config, only_patches)
    whole = adapter.grounding["linears_image.fc1.weight"]
    expected = torch.cat([whole[:, :200], whole[:, 264:]], dim=1)
    assert torch.equal(cut["linears_image.fc1.weight"], expected)
    null = adapter.grounding["null_position_feature"]
    assert torch.equal(cut["null_position_feature"], null[..., 64:])


def test_a_file_without_query_positions_can_be_loaded(tmp_path: Path) -> None:
    stage = stage_without("no_patch_positions")
    write_files(tmp_path, live_model(stage), small(), stage)
    read = recipe_of_file(checkpoint.load(tmp_path / ADAPTER_NAME).config)
    assert not read.query_positions and not read.local_start
    names = small_model(small(), read).state_dict().keys()
    assert not any("query_position" in name for name in names)
