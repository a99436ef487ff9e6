"""A base in one file: what ComfyUI's own classes call their weights is read as the same model."""

from __future__ import annotations

import re
from pathlib import Path

import comfy.ldm.models.autoencoder
import factories
import pytest
import torch
from diffusers import UNet2DConditionModel
from host_models import Base, Host
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from subject_diffusion_core.errors import CheckpointError
from training.bases.architectures import SD15, Architecture
from training.bases.single_file import OPEN_CLIP, UNET, VAE, read_single_file
from training.recipes import recipe_named

DDCONFIG = {
    "double_z": True, "z_channels": 4, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
    "ch_mult": [1, 2, 2, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip
TEXT_WIDTH, TEXT_LAYERS = 128, 3


def first_vae() -> torch.nn.Module:
    model = comfy.ldm.models.autoencoder.AutoencoderKL(ddconfig=DDCONFIG, embed_dim=4)
    return factories.randomize(model, 3, scale=0.7)


TEXT = {
    **factories.TINY_TEXT, "hidden_act": "gelu", "num_attention_heads": 2,
    "hidden_size": TEXT_WIDTH, "num_hidden_layers": TEXT_LAYERS,
}  # fmt: skip


def text_encoder() -> CLIPTextModel:
    return factories.randomize(CLIPTextModel(CLIPTextConfig(**TEXT)), 4)


def architecture(base: Base) -> Architecture:
    """The small files' sizes, as `architectures.py` has those of the families."""
    names = ("block_out_channels", "layers_per_block", "attention_head_dim", "cross_attention_dim",
             "use_linear_projection", "down_block_types", "up_block_types", "sample_size",
             "norm_num_groups")  # fmt: skip
    vae = {
        "block_out_channels": [DDCONFIG["ch"] * factor for factor in DDCONFIG["ch_mult"]],
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": DDCONFIG["num_res_blocks"],
    }
    unet = {name: base.config[name] for name in names if name in base.config}
    return Architecture(unet=unet, text={**TEXT, "num_hidden_layers": TEXT_LAYERS - 1}, vae=vae)


def open_clip_state(model: CLIPTextModel) -> dict[str, torch.Tensor]:
    """The tower under open_clip's names."""
    state = getattr(model, "text_model", model).state_dict()
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        for new, old in (
            ("embeddings.token_embedding", "token_embedding"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("final_layer_norm", "ln_final"), ("encoder.layers", "transformer.resblocks"),
            ("layer_norm", "ln_"), ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
            ("self_attn.out_proj", "attn.out_proj"),
        ):  # fmt: skip
            name = name.replace(new, old)
        if not re.search("[qkv]_proj", name) and not name.endswith("position_ids"):
            renamed[name] = tensor
    for layer in range(TEXT_LAYERS):
        stem = f"encoder.layers.{layer}.self_attn"
        for kind in ("weight", "bias"):
            parts = [state[f"{stem}.{letter}_proj.{kind}"] for letter in "qkv"]
            renamed[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(parts)
    return {**renamed, "text_projection": torch.zeros(TEXT_WIDTH, TEXT_WIDTH)}


def write_file(base: Base, text: CLIPTextModel, vae: torch.nn.Module, path: Path) -> Path:
    unet = base.model.model.diffusion_model.state_dict()
    state = {f"{UNET}{k}": v for k, v in unet.items()}
    state |= {f"{VAE}{k}": v for k, v in vae.state_dict().items()}
    state |= {f"{OPEN_CLIP}{k}": v for k, v in open_clip_state(text).items()}
    save_file({k: v.contiguous().clone() for k, v in state.items()}, path)
    return path


@torch.no_grad()
def test_sd2_in_one_file(host: Host, tmp_path: Path) -> None:
    base, text, vae = host.make_base("sd2"), text_encoder(), first_vae()
    path = write_file(base, text, vae, tmp_path / "base.safetensors")
    read = read_single_file(path, recipe_named("paper_sd2"), architecture(base))
    wanted = base.unet.state_dict()
    assert read.unet.keys() == wanted.keys()
    assert all(torch.equal(read.unet[name], wanted[name]) for name in wanted)
    UNet2DConditionModel(**read.unet_arguments).load_state_dict(read.unet)
    assert read.prediction_type == "epsilon" and read.latent_channels == 4
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    moments = vae.quant_conv(vae.encoder(pixels)).chunk(2, 1)[0]
    got = read.load_vae().encode(pixels).latent_dist.mean
    torch.testing.assert_close(got, moments, atol=1e-4, rtol=1e-3)
    # all layers but the last, then the final norm, as ComfyUI uses this text encoder
    encoder = CLIPTextModel(read.text_config).eval()
    encoder.load_state_dict(read.text)
    ids = torch.randint(0, 49000, (1, 77))
    hidden = text(ids, output_hidden_states=True).hidden_states[-2]
    penultimate = getattr(text, "text_model", text).final_layer_norm(hidden)
    torch.testing.assert_close(encoder(ids).last_hidden_state, penultimate, atol=1e-5, rtol=1e-4)


def test_sd15_in_one_file(host: Host, tmp_path: Path) -> None:
    base = host.make_base("sd15")
    path = write_file(base, text_encoder(), first_vae(), tmp_path / "base.safetensors")
    with pytest.raises(CheckpointError, match=r"expected sd2, got .* which is sd15"):
        read_single_file(path, recipe_named("one_gpu_sd2"))
    read = read_single_file(path, recipe_named("one_gpu_sd15"), architecture(base))
    wanted = base.unet.state_dict()
    assert all(torch.equal(read.unet[name], wanted[name]) for name in wanted)
    assert read_single_file(path, recipe_named("one_gpu_sd15")).unet_arguments == SD15.unet
    with pytest.raises(CheckpointError, match="expected the autoencoder of its family"):
        read_single_file(path, recipe_named("one_gpu_sd15")).load_vae()
