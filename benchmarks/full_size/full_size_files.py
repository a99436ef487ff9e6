"""Writes the files of one example for a public adapter into a folder: of full geometry, with random
weights, in float16.

A program of its own: it puts ComfyUI into its process, as tests/host does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Shapes = dict[str, tuple[int, ...]]
UNETS: dict[str, dict[str, Any]] = {
    "sd15": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sdxl": {
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}
FILES = {
    "sd15": {
        "checkpoints": "v1-5-pruned-emaonly.safetensors",
        "clip_vision": "CLIP-ViT-H-14-laion2B-s32B-b79K.safetensors",
        "ipadapter": "ip-adapter-plus_sd15.safetensors",
    },
    "sdxl": {
        "checkpoints": "sd_xl_base_1.0.safetensors",
        "clip_vision": "CLIP-ViT-bigG-14-laion2B-39B-b160k.safetensors",
        "ipadapter": "ms_adapter.bin",
    },
}
# A family's checkpoint alone.
FILES |= {
    f"{use}_{family}": {"checkpoints": FILES[family]["checkpoints"]}
    for use in ("seeing", "tuned", "guided")
    for family in UNETS
}


def write_files(base: str, models: Path) -> None:
    """Every file of an example that is not there yet."""
    from full_size import write_random

    makers = {
        "checkpoints": checkpoint_shapes,
        "clip_vision": vision_shapes,
        "ipadapter": adapter_shapes,
    }
    for folder, name in FILES[base].items():
        path = models / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            write_random(path, makers[folder](base.rpartition("_")[2]))


def meta_unet(base: str) -> Any:
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel(**UNETS[base])


def checkpoint_shapes(base: str) -> Shapes:
    """A checkpoint under its makers' names."""
    import comfy.ldm.models.autoencoder
    import comfy.ldm.modules.diffusionmodules.openaimodel
    import comfy.model_detection
    import comfy.ops
    import factories
    import torch
    from full_size import SD2_VAE, shapes_of
    from open_clip.transformer import TextTransformer
    from transformers import CLIPTextConfig, CLIPTextModel

    unet_class = comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel
    config = comfy.model_detection.unet_config_from_diffusers_unet(meta_unet(base).state_dict())
    text_l = {**factories.TINY_TEXT, "hidden_size": 768, "intermediate_size": 3072}
    text_l |= {"num_hidden_layers": 12, "num_attention_heads": 12}
    with torch.device("meta"):
        unet = unet_class(**config, operations=comfy.ops.disable_weight_init)
        vae = comfy.ldm.models.autoencoder.AutoencoderKL(embed_dim=4, ddconfig=SD2_VAE)
        clip_l = factories.text_encoder_state(CLIPTextModel(CLIPTextConfig(**text_l)))
        clip_g = TextTransformer(width=1280, heads=20, layers=32, output_dim=1280)
    prefix = {"sd15": "cond_stage_model.", "sdxl": "conditioner.embedders.0."}[base]
    shapes = {
        **shapes_of(unet, "model.diffusion_model."),
        **shapes_of(vae, "first_stage_model."),
        **{f"{prefix}transformer.{name}": tuple(t.shape) for name, t in clip_l.items()},
    }
    return shapes | (shapes_of(clip_g, "conditioner.embedders.1.model.") if base == "sdxl" else {})


def vision_shapes(base: str) -> Shapes:
    import json

    import comfy.clip_model
    import comfy.clip_vision
    import comfy.ops
    import torch
    from full_size import shapes_of

    letter = {"sd15": "h", "sdxl": "g"}[base]
    file = Path(comfy.clip_vision.__file__).with_name(f"clip_vision_config_{letter}.json")
    with torch.device("meta"):
        model = comfy.clip_model.CLIPVisionModelProjection(
            json.loads(file.read_text(encoding="utf-8")),
            torch.float16,
            torch.device("meta"),
            comfy.ops.disable_weight_init,
        )
    shapes: Shapes = shapes_of(model)
    return shapes


def adapter_shapes(base: str) -> Shapes:
    """IP-Adapter plus for SD 1.5, MS-Diffusion for SDXL."""
    import torch
    from full_size import shapes_of

    from subject_diffusion_core.ip_attention import GroundingResampler, PerceiverResampler

    unet = meta_unet(base)
    with torch.device("meta"):
        projection: torch.nn.Module
        if base == "sd15":
            projection = PerceiverResampler(768, 4, 64, 12, 16, 1280, 768)
        else:
            projection = GroundingResampler(1280, 4, 64, 20, 16, 1664, 2048, 768)
    part = {"sd15": "ip_adapter", "sdxl": "ms_adapter"}[base]
    shapes: Shapes = shapes_of(projection, "image_proj.")
    for number, name in enumerate(unet.attn_processors):
        if ".attn2." in name:
            shape = tuple(unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape)
            shapes |= {f"{part}.{number}.to_{letter}_ip.weight": shape for letter in "kv"}
    return shapes | ({"dummy_image_tokens": (1, 4, 2048)} if base == "sdxl" else {})


def main(base: str, folder: str) -> None:
    sys.path[:0] = [str(ROOT / "tests" / "host"), str(ROOT / "tests")]
    import conftest

    try:
        write_files(base, Path(folder).resolve())
    finally:
        conftest.pytest_unconfigure()


if __name__ == "__main__":
    main(*sys.argv[1:])
