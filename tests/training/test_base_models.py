"""Bases and image encoders from local files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

from subject_diffusion_core.errors import CheckpointError
from training.bases.architectures import TINY_WIDTH
from training.bases.loading import load_base, random_base, read_diffusers_folder, read_tiny_base
from training.bases.vision import RANDOM_VIT, load_vision, vision_shape
from training.methods.subject_diffusion.assembly import build_model
from training.networks.low_rank import add_low_rank, merged
from training.recipes import recipe_named

RECIPE = recipe_named("debug_cpu")
WEIGHTS = Path(__file__).resolve().parents[2] / "weights"


def write_folder(folder: Path, prediction: str = "v_prediction") -> Path:
    """The random base as diffusers writes a pipeline."""
    base = random_base(RECIPE)
    unet = UNet2DConditionModel(**TINY_WIDTH.unet)
    unet.load_state_dict(base.unet)
    unet.save_pretrained(folder / "unet")
    text = CLIPTextModel(base.text_config)
    text.load_state_dict(base.text)
    text.save_pretrained(folder / "text_encoder")
    base.load_vae().save_pretrained(folder / "vae")
    DDIMScheduler(prediction_type=prediction).save_pretrained(folder / "scheduler")
    return folder


def test_diffusers_folder(tmp_path: Path) -> None:
    base = random_base(RECIPE)
    read = read_diffusers_folder(write_folder(tmp_path), RECIPE)
    assert read.prediction_type == "v_prediction" and read.latent_channels == 4
    for part in ("unet", "text"):
        one, two = getattr(base, part), getattr(read, part)
        assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one), part
    pixels = torch.rand(1, 3, 64, 64)
    vaes = [b.load_vae().encode(pixels).latent_dist.mean for b in (base, read)]
    assert torch.equal(*vaes)
    model = build_model(read, RECIPE, vision_shape(RECIPE, read))
    assert model.unet.conv_in.weight.shape[1] == 5
    assert not model.unet.conv_in.weight[:, 4:].any()
    assert torch.equal(model.unet.conv_in.weight[:, :4], base.unet["conv_in.weight"])


def test_folder_that_lacks_something(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected diffusion_pytorch_model\.safeten"):
        read_diffusers_folder(folder, RECIPE)
    (folder / "unet" / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected unet/config\.json in a diff"):
        read_diffusers_folder(folder, RECIPE)


def test_prediction_type_is_the_bases(tmp_path: Path) -> None:
    wrong = replace(RECIPE, prediction_type="epsilon")
    with pytest.raises(ValueError, match="prediction_type: expected the base's own, v_prediction"):
        read_diffusers_folder(write_folder(tmp_path), wrong)


def test_base_of_another_family_is_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    with pytest.raises(CheckpointError, match=r"expected sd2 with texts of width 1024, got .* 32"):
        load_base(folder, recipe_named("paper_sd2"))
    save_file({"weight": torch.zeros(1)}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match="expected a whole Stable Diffusion checkpoint"):
        load_base(tmp_path / "part.safetensors", recipe_named("one_gpu_sd15"))


@pytest.mark.parametrize("part", ["unet", "text"])
def test_weights_of_another_size_are_refused(part: str) -> None:
    """As in a single file of odd geometry, which is read by its family's sizes."""
    base = random_base(RECIPE)
    state = dict(getattr(base, part))
    name = next(reversed(state))
    state[name] = torch.zeros(7, 5)
    with pytest.raises(CheckpointError, match=r"of its family's size, .* got \(7, 5\)\. Choose"):
        build_model(replace(base, **{part: state}), RECIPE, vision_shape(RECIPE, base))


def test_small_base_of_this_repository() -> None:
    base = read_tiny_base(WEIGHTS / "tiny_base.safetensors")
    assert base.family == "tiny" and base.vision_geometry is not None
    recipe = recipe_named("tiny_adapter")
    shape = vision_shape(recipe, base)
    vision = load_vision(None, recipe, base)
    size = base.vision_geometry.image_size
    patches, embeds = vision(torch.rand(1, 3, size, size))
    assert patches.shape == (1, shape.num_patches, shape.patch_dim)
    assert embeds.shape == (1, shape.image_embed_dim)


def test_patch_tokens_come_before_the_last_norm() -> None:
    vision = load_vision(None, RECIPE, random_base(RECIPE))
    pictures = torch.rand(2, 3, RANDOM_VIT["image_size"], RANDOM_VIT["image_size"])
    patches, embeds = vision(pictures)
    with torch.no_grad():
        vision.tower.ln_post.weight.mul_(3)
    other_patches, other_embeds = vision(pictures)
    assert torch.equal(patches, other_patches)
    assert not torch.equal(embeds, other_embeds)
    assert patches.shape == (2, 16, 32)


def test_vision_of_another_kind_is_refused(tmp_path: Path) -> None:
    recipe, base = recipe_named("one_gpu_sd15"), random_base(RECIPE)
    with pytest.raises(FileNotFoundError, match="--vision: expected a file with CLIP ViT-H/14"):
        load_vision(None, recipe, base)
    save_file({"visual.conv1.weight": torch.zeros(8, 3, 2, 2)}, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="expected the image tower of CLIP ViT-H/14"):
        load_vision(tmp_path / "b.safetensors", recipe, base)


def test_low_rank_deltas_start_at_nothing_and_merge() -> None:
    torch.manual_seed(0)
    base = random_base(RECIPE)
    plain, changed = (CLIPTextModel(base.text_config).eval() for _ in range(2))
    for model in (plain, changed):
        model.load_state_dict(base.text)
    add_low_rank(changed, rank=3)
    ids = torch.randint(0, 49000, (1, 77))
    with torch.no_grad():
        before = plain(ids).last_hidden_state
        torch.testing.assert_close(changed(ids).last_hidden_state, before)
        for name, parameter in changed.named_parameters():
            if name.endswith("0.up"):
                parameter.normal_()
        after = changed(ids).last_hidden_state
        plain.load_state_dict(merged(changed.state_dict()))
        torch.testing.assert_close(plain(ids).last_hidden_state, after, atol=2e-4, rtol=1e-3)
    assert (after - before).abs().max() > 0.1
