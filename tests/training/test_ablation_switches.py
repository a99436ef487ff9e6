"""Each switched-off part: what the model ignores, what is trained, what the file says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_tables import batch_maker, small_recipe

from subject_diffusion_core import checkpoint
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_vision import TinyVision
from training.evaluation.ablation.variant_training import cut_grounding
from training.evaluation.ablation.variants import BY_NAME, VARIANTS, Variant
from training.methods.subject_diffusion.model import Conditioning, SubjectDiffusionModel
from training.toy.autoencoder import build_autoencoder
from training.toy.build import build_model
from training.toy.diffusion import DiffusionStep, noise_scheduler, use_plain_attention
from training.toy.export import (
    adapter_from_model,
    base_from_model,
    freeze_base,
    load_adapter_into,
    load_base_into,
)
from training.toy.loading import ADAPTER_NAME, BASE_NAME, load_sampler, recipe_of_files
from training.toy.recipe import TinyRecipe

KEPT = {"drop_text": 0.0, "drop_image": 0.0, "drop_both": 0.0, "base_only": 0.0, "same_view": 1.0}
STEPS = torch.tensor([10, 200, 500, 900])


def recipe_without(name: str) -> TinyRecipe:
    recipe = small_recipe(**KEPT)
    return BY_NAME[name].recipe_of(recipe, recipe.joint)


def live_model(recipe: TinyRecipe) -> SubjectDiffusionModel:
    """An untrained model in which every part acts."""
    model = build_model(recipe, batch_maker(recipe).vocabulary, seed=4)
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
def test_the_model_ignores_what_is_switched_off_and_nothing_else(name: str) -> None:
    recipe = recipe_without(name)
    batch = batch_maker(recipe).draw(0)
    for other, change in CHANGES.items():
        model = live_model(recipe)
        with torch.no_grad():
            before = model(batch.latents, STEPS, batch.conditioning)
            after = model(batch.latents, STEPS, change(batch.conditioning))
        blind = other == name or (name, other) == ("no_adapter", "no_box_coordinates")
        assert torch.equal(before, after) == blind, other


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_the_files_give_back_the_trained_variant(variant: Variant, tmp_path: Path) -> None:
    recipe = recipe_without(variant.name)
    maker = batch_maker(recipe)
    model = live_model(recipe)
    autoencoder = build_autoencoder(recipe.autoencoder)
    base = base_from_model(model, autoencoder, TinyVision(), maker.vocabulary, recipe, {})
    tiny_base.save(tmp_path / BASE_NAME, base)
    load_base_into(model, tiny_base.load(tmp_path / BASE_NAME), maker.vocabulary)
    adapter = adapter_from_model(model, maker.vocabulary, recipe, {})
    checkpoint.save(tmp_path / ADAPTER_NAME, adapter)
    loaded = load_sampler(tmp_path, steps=2).model
    batch = maker.draw(0)
    with torch.no_grad():
        expected = model(batch.latents, STEPS, batch.conditioning)
        got = loaded(batch.latents, STEPS, batch.conditioning)
    assert (got - expected).norm() / expected.norm() < 2e-3  # the file is fp16
    for switch in ("location_control", "box_coordinates", "patch_positions", "query_positions"):
        assert getattr(adapter.config, switch) == getattr(recipe, switch), switch


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_what_is_trained_gets_gradients_and_what_is_off_is_frozen(variant: Variant) -> None:
    recipe = recipe_without(variant.name)
    model = live_model(recipe)
    freeze_base(model)
    step = DiffusionStep(
        model, use_plain_attention(model.unet), noise_scheduler(), recipe.adapter, torch.float32
    )
    loss, values = step(batch_maker(recipe).draw(0), noise_seed=1)
    loss.backward()
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert any("fuser" in name for name in trained) == recipe.adapter_layer
    assert any("position_net" in name for name in trained) == recipe.adapter_layer
    assert any(name.startswith("mlp.") for name in trained) == recipe.image_cls
    assert (values["maps"] == 0) == (recipe.adapter.map_loss_kind == "off")


def test_both_map_losses_differ() -> None:
    losses = {}
    for name in ("full", "plain_l1_map_loss", "no_map_loss"):
        recipe = recipe_without(name)
        model = live_model(recipe)
        step = DiffusionStep(
            model, use_plain_attention(model.unet), noise_scheduler(), recipe.adapter, torch.float32
        )
        losses[name] = step(batch_maker(recipe).draw(0), noise_seed=1)[1]
    assert len({values["maps"] for values in losses.values()}) == 3
    assert len({values["mse"] for values in losses.values()}) == 1


@pytest.mark.parametrize("name", ["full", "no_box_coordinates", "no_patch_positions"])
def test_a_trained_adapter_starts_a_variant_without_its_columns(name: str) -> None:
    full = small_recipe(**KEPT)
    vocabulary = batch_maker(full).vocabulary
    source = live_model(full)
    adapter = adapter_from_model(source, vocabulary, full, {})
    model = build_model(recipe_without(name), vocabulary, seed=9)
    grounding = cut_grounding(adapter.grounding, adapter.config, model.shape)
    load_adapter_into(model, replace(adapter, grounding=grounding))
    kept = 200 + (64 if model.shape.box_coordinates else 0)
    weight, own = source.grounding.linears_image.fc1.weight, model.grounding.linears_image.fc1
    assert own.in_features == (kept if name != "full" else 328)
    torch.testing.assert_close(own.weight[:, :kept], weight[:, :kept], atol=1e-3, rtol=1e-3)
    batch = batch_maker(full).draw(0)
    assert model(batch.latents, STEPS, batch.conditioning).isfinite().all()


def test_patch_columns_are_cut_behind_the_boxs() -> None:
    full = small_recipe()
    vocabulary = batch_maker(full).vocabulary
    adapter = adapter_from_model(live_model(full), vocabulary, full, {})
    only_patches = replace(live_model(full).shape, box_coordinates=False)
    cut = cut_grounding(adapter.grounding, adapter.config, only_patches)
    whole = adapter.grounding["linears_image.fc1.weight"]
    expected = torch.cat([whole[:, :200], whole[:, 264:]], dim=1)
    assert torch.equal(cut["linears_image.fc1.weight"], expected)
    null = adapter.grounding["null_position_feature"]
    assert torch.equal(cut["null_position_feature"], null[..., 64:])


def test_a_file_without_query_positions_can_be_loaded() -> None:
    recipe = recipe_without("no_patch_positions")
    vocabulary = batch_maker(recipe).vocabulary
    model = live_model(recipe)
    base = base_from_model(
        model, build_autoencoder(recipe.autoencoder), TinyVision(), vocabulary, recipe, {}
    )
    read = recipe_of_files(base, adapter_from_model(model, vocabulary, recipe, {}).config)
    names = build_model(read, vocabulary).state_dict().keys()
    assert not any("query_position" in name for name in names)
