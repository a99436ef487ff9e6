"""The files that some examples expect of their user, random but always the same.

They fit the small model that comes with the pack and rely on public file formats only.
"""

from __future__ import annotations

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from segment_anything import modeling
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"


def write_files(base: Path, comfyui: Path) -> None:
    """Pictures into `base`/input, model files below `base`/models."""
    for picture in (ROOT / "assets").rglob("*.png"):
        shutil.copy(picture, base / "input")
    models = base / "models"
    for folder in ("loras", "controlnet", "sams", "subject_diffusion"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    save_file(make_lora(), models / "loras" / "your_lora.safetensors")
    control = make_controlnet(comfyui)
    save_file(control, models / "controlnet" / "your_controlnet.safetensors")
    torch.save(make_sam().state_dict(), models / "sams" / "sam_vit_b_01ec64.pth")
    adapter = models / "subject_diffusion" / "bundled_adapter.safetensors"
    shutil.copy(WEIGHTS / "tiny_adapter.safetensors", adapter)


def unet_config() -> dict[str, Any]:
    """diffusers' configuration of the bundled UNet."""
    with safe_open(WEIGHTS / "tiny_base.safetensors", "pt") as file:
        config: dict[str, Any] = json.loads(file.metadata()["subject_diffusion_tiny_base"])["unet"]
    return config


def randomize(module: nn.Module, seed: int) -> nn.Module:
    """Random parameters of a size that keeps activations near 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                noise = noise / parameter[0].numel() ** 0.5
            elif name.endswith("weight"):
                noise = 1.0 + 0.1 * noise
            else:
                noise = 0.1 * noise
            parameter.copy_(noise)
    return module.eval()


def make_lora() -> dict[str, torch.Tensor]:
    """A LoRA on keys, queries and a text layer, which an adapter may change, too."""
    config = unet_config()
    width, context = config["block_out_channels"][1], config["cross_attention_dim"]
    shapes = {
        "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k": (width, context),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q": (width, width),
        "lora_te_text_model_encoder_layers_0_self_attn_q_proj": (context, context),
    }
    generator = torch.Generator().manual_seed(1)
    lora: dict[str, torch.Tensor] = {}
    for name, (rows, columns) in shapes.items():
        lora[f"{name}.lora_up.weight"] = 0.1 * torch.randn(rows, 2, generator=generator)
        lora[f"{name}.lora_down.weight"] = 0.1 * torch.randn(2, columns, generator=generator)
        lora[f"{name}.alpha"] = torch.tensor(2.0)
    return lora


def make_controlnet(comfyui: Path) -> dict[str, torch.Tensor]:
    """ComfyUI's own ControlNet with the bundled UNet's geometry."""
    sys.path.insert(0, str(comfyui))
    from comfy.cli_args import args

    args.cpu = True
    import comfy.cldm.cldm
    import comfy.ops

    config = unet_config()
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    depths = [int("CrossAttn" in kind) for kind in config["down_block_types"]]
    network = comfy.cldm.cldm.ControlNet(
        image_size=config["sample_size"],
        in_channels=config["in_channels"],
        model_channels=channels[0],
        channel_mult=[width // channels[0] for width in channels],
        num_res_blocks=[layers] * len(channels),
        transformer_depth=[depth for depth in depths for _ in range(layers)],
        transformer_depth_middle=1,
        use_spatial_transformer=True,
        use_linear_in_transformer=True,
        context_dim=config["cross_attention_dim"],
        num_heads=-1,
        num_head_channels=64,
        legacy=False,
        hint_channels=3,
        dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )
    state = randomize(network, seed=5).state_dict()
    return {f"control_model.{name}": tensor for name, tensor in state.items()}


def make_sam() -> modeling.Sam:
    """A segment-anything of 64 pixels and two blocks, one with windows."""
    width = 32
    sam = modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=64, patch_size=8, embed_dim=24, depth=2, num_heads=3, out_chans=width,
            norm_layer=partial(nn.LayerNorm, eps=1e-6), use_rel_pos=True, window_size=3,
            global_attn_indexes=(1,),
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=width, image_embedding_size=(8, 8), input_image_size=(64, 64),
            mask_in_chans=8,
        ),
        mask_decoder=modeling.MaskDecoder(
            transformer_dim=width,
            transformer=modeling.TwoWayTransformer(
                depth=2, embedding_dim=width, num_heads=8, mlp_dim=48
            ),
            iou_head_depth=3,
            iou_head_hidden_dim=40,
        ),
    )  # fmt: skip
    randomize(sam, seed=12)
    matrix = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    matrix.copy_(torch.randn(matrix.shape, generator=torch.Generator().manual_seed(12)))
    return sam
