"""Every recipe gives the same prediction in the training loop's model and in ComfyUI.

Widths are small, weights random and rounded to the fp16 of adapter files; every part that a switch
leaves on is far from its start, so that nothing can agree by being zero.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import factories
import numpy as np
import pytest
import torch
from host_models import BOXES, Base, Host, cfg_guider, random_context, random_noise, relative_error
from test_parity import TIMESTEP, host_prediction
from transformers import CLIPTextConfig, CLIPTextModel

from subject_diffusion_core import checkpoint
from subject_diffusion_core.location_mask import boxes_to_location_mask
from subject_diffusion_core.prompts import build_chunk, build_prompt
from subject_diffusion_core.tiny import tiny_base
from training.bases.base_model import BaseModel
from training.bases.loading import read_tiny_base
from training.bases.vision import VisionShape, load_vision, vision_shape
from training.dataset.references import Augmentation, cut_out, reference_picture
from training.methods.conditioning import Conditioning
from training.methods.subject_diffusion.assembly import (
    adapter_config,
    adapter_from_model,
    build_model,
    choose_trainable,
)
from training.networks.fused_attention import use_fused_attention
from training.networks.text import END_TOKEN, START_TOKEN, encode_words
from training.recipes import RECIPES, TrainingRecipe, recipe_named, with_settings

VISION = VisionShape(num_patches=16, patch_dim=24, image_embed_dim=20, reference_size=224)
# An adapter file says all of a run only where the base stays as it is. Other methods' are in
# test_trained_ip_attention.py.
ADAPTER_RECIPES = [
    name
    for name, recipe in RECIPES.items()
    if not recipe.train_base and recipe.method == "subject_diffusion"
]
FAMILIES = {name: recipe.base_family for name, recipe in RECIPES.items()}
SMALL = ("grounding_hidden_dim=24", "projector_hidden_dim=24")
MORE_BOXES = (*BOXES, *((0.1 * i, 0.1, 0.1 * i + 0.3, 0.8) for i in range(4)))


def small_base(base: Base, family: str) -> BaseModel:
    """The host's base as the training side reads it; its text encoder is as wide as its texts."""
    width = base.config["cross_attention_dim"]
    text_config = CLIPTextConfig(**{**factories.TINY_TEXT, "hidden_size": width})
    arguments = {k: v for k, v in base.config.items() if not k.endswith("_channels")}
    arguments["block_out_channels"] = base.config["block_out_channels"]
    return BaseModel(
        family=family,
        unet_arguments=arguments,
        latent_channels=base.config["in_channels"],
        unet=base.unet.state_dict(),
        text_config=text_config,
        text=CLIPTextModel(text_config).state_dict(),
        load_vae=lambda: torch.nn.Identity(),
        prediction_type="v_prediction" if family == "tiny" else "epsilon",
    )


@torch.no_grad()
def trained_model(base: BaseModel, recipe: TrainingRecipe, vision: VisionShape) -> Any:
    """The loop's model, every trained parameter moved and rounded to fp16."""
    model = build_model(base, recipe, vision)
    choose_trainable(model, recipe)
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        scale = 0.5 * max(1, parameter[0].numel()) ** -0.5 if parameter.ndim > 1 else 0.1
        moved = torch.tensor(0.6) if ".alpha_" in name else parameter + scale * noise
        parameter.copy_(moved.half())
    for (
        name,
        parameter,
    ) in model.named_parameters():  # what a file also holds, without being trained
        if ".fuser." in name or "position_net" in name or name.startswith("mlp."):
            parameter.copy_(parameter.half())
    use_fused_attention(model.unet)
    return model.eval()


def export(model: Any, base: BaseModel, recipe: TrainingRecipe, vision: Any, path: Path) -> Path:
    config = adapter_config(model, base, recipe, vision, {})
    checkpoint.save(path, adapter_from_model(model, config, recipe))
    return path


def conditioning_for(branch: Any, recipe: TrainingRecipe, noise: torch.Tensor) -> Conditioning:
    """The host's branch as the loop's conditioning."""
    batch, slots = len(noise), len(branch.subject_valid)
    boxes, valid = branch.subject_boxes_xyxy[None], branch.subject_valid[None]
    drawn = valid & recipe.location_control
    mask = boxes_to_location_mask(boxes, drawn, *noise.shape[-2:])
    positions = torch.full((batch, slots), -1)
    return Conditioning(
        token_ids=torch.full((batch, 77), END_TOKEN),
        placeholder_positions=positions,
        label_positions=positions,
        text_valid=torch.zeros(batch, slots, dtype=torch.bool),
        subject_valid=valid.expand(batch, -1),
        subject_boxes_xyxy=boxes.expand(batch, -1, -1),
        patch_embeds=branch.patch_embeds[None].expand(batch, -1, -1, -1),
        image_embeds=torch.zeros(batch, slots, VISION.image_embed_dim),
        location_mask=mask.expand(batch, -1, -1, -1),
        adapter_scale=torch.ones(batch, 1, 1),
    )


def branch_of(host: Host, loaded: Any, count: int) -> Any:
    """As Host.branch, up to eight subjects."""
    config = loaded.config
    slots = max(count, config.num_subjects)
    boxes, valid = torch.zeros(slots, 4), torch.arange(slots) < count
    boxes[:count] = torch.tensor(MORE_BOXES[:count])
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(slots, config.num_patches, config.patch_dim, generator=generator)
    return host.branches.BranchSubjects(
        adapter=loaded.adapter,
        patch_embeds=patches,
        subject_boxes_xyxy=boxes,
        subject_valid=valid,
        token_strengths=torch.ones(slots),
    )


@torch.no_grad()
def both_predictions(
    host: Host, folder: Path, name: str, settings: tuple[str, ...], count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training's prediction, the host's, and the base's without an adapter."""
    family = FAMILIES[name]
    recipe = with_settings(recipe_named(name), [*SMALL, "text_encoder=frozen", *settings])
    base = host.make_base(family)
    small = small_base(base, family)
    model = trained_model(small, recipe, VISION)
    loaded = host.registry.load_adapter(
        export(model, small, recipe, VISION, folder / "adapter.safetensors")
    )
    branch = branch_of(host, loaded, count)
    context, noise = random_context(base), random_noise(base, batch=2)
    model.encode = lambda _: context.expand(2, -1, -1)
    sigma = base.model.get_model_object("model_sampling").sigmas[TIMESTEP]
    x = noise * sigma / (sigma**2 + 1) ** 0.5
    timesteps = torch.full((2,), TIMESTEP)
    wanted = model(x, timesteps, conditioning_for(branch, recipe, noise))
    applied, _ = host.apply_node.apply_adapter(base.model, base.clip, loaded)
    positive = host.conditioning(context, branch)
    got = host_prediction(base, cfg_guider(applied, positive, positive), noise)
    stock = [host.conditioning(context, None)] * 2
    return wanted, got, host_prediction(base, cfg_guider(base.model, *stock), noise)


@pytest.mark.parametrize("name", ADAPTER_RECIPES)
def test_every_recipe(host: Host, tmp_path: Path, name: str) -> None:
    wanted, got, stock = both_predictions(host, tmp_path, name, (), 2)
    assert relative_error(got, wanted) < 1e-4
    assert relative_error(stock, wanted) > 1e-2


@pytest.mark.parametrize(
    "settings",
    [
        ("location_control=false",),
        ("location_control=false", "conv_in=false"),
        ("box_coordinates=false",),
        ("adapter=false",),
        ("image_cls=false",),
        ("map_loss=off",),
        ("map_loss=l1", "cross_attention_kv=false"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["paper_sd2", "one_gpu_sd15"])
def test_every_switch(host: Host, tmp_path: Path, name: str, settings: tuple[str, ...]) -> None:
    wanted, got, stock = both_predictions(host, tmp_path, name, settings, 2)
    assert relative_error(got, wanted) < 1e-4
    assert relative_error(stock, wanted) > 1e-3


@pytest.mark.parametrize("count", range(1, 9))
def test_one_to_eight_subjects(host: Host, tmp_path: Path, count: int) -> None:
    settings = ("num_subjects=8",)
    wanted, got, _ = both_predictions(host, tmp_path, "paper_sd2", settings, count)
    assert relative_error(got, wanted) < 1e-4


@pytest.mark.parametrize("switch", [True, False], ids=["with CLS", "without CLS"])
@pytest.mark.parametrize("text_encoder", ["full", "lora"])
@torch.no_grad()
def test_fused_text(host: Host, tmp_path: Path, switch: bool, text_encoder: str) -> None:
    """From picture, mask and prompt to text states: Encode against the loop's own path."""
    recipe = with_settings(
        recipe_named("tiny_adapter"), [*SMALL, f"text_encoder={text_encoder}", "num_subjects=2"]
    )
    recipe = replace(recipe, image_cls=switch)
    tiny_base.save(tmp_path / "base.safetensors", host.tiny, int8=False)
    base = read_tiny_base(tmp_path / "base.safetensors")
    vision = vision_shape(recipe, base)
    model = trained_model(base, recipe, vision)
    path = export(model, base, recipe, vision, tmp_path / "adapter.safetensors")
    loaded = host.registry.load_adapter(path)
    bases = host.make_base("tiny")
    _, clip = host.apply_node.apply_adapter(bases.model, bases.clip, loaded)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
    mask = np.zeros((60, 80), bool)
    mask[10:50, 20:70] = True
    picture, alpha = torch.from_numpy(image)[None] / 255, torch.from_numpy(mask)[None].float()
    (subjects,) = host.subject_node.SubjectDiffusionSubject.execute(
        picture, "dog", "0,0,1,1", 1.0, mask=alpha
    ).args
    encoder = host.tiny_clip_vision.TinyClipVision(host.tiny)
    positive = host.encode_node.SubjectDiffusionEncode.execute(
        clip, encoder, loaded, subjects, "a dog on a beach", ""
    ).args[0]
    reference = reference_picture(
        cut_out(image, mask),
        vision.reference_size,
        None,
        Augmentation(flip=0, rotation=0, perspective=0),
    )
    embeds = load_vision(None, recipe, base)(reference[None])[1]
    chunk = build_chunk(
        build_prompt("a dog on a beach", ["dog"]), encode_words, num_slots=2,
        placeholder_token_id=recipe.placeholder_token_id, start_token_id=START_TOKEN,
        end_token_id=END_TOKEN, pad_token_id=base.pad_token_id,
    )  # fmt: skip
    noise = torch.zeros(1, 16, 16, 16)
    branch = branch_of(host, loaded, 1)
    conditioning = replace(
        conditioning_for(branch, recipe, noise),
        token_ids=chunk.token_ids[None],
        placeholder_positions=chunk.placeholder_positions[None],
        text_valid=torch.tensor([[True, False]]),
        image_embeds=torch.stack([embeds[0], torch.zeros_like(embeds[0])])[None],
    )
    wanted = model.encode(conditioning)
    assert relative_error(positive[0][0].float(), wanted) < 2e-3
