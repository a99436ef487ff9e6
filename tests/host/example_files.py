"""Files that an example workflow expects of its user, as tiny real ones for the random tiny base.

A new example that names a model file adds it to `write_example_files`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import comfy.cldm.cldm
import comfy.ops
import factories
import torch
from host_models import Host
from safetensors.torch import save_file
from test_coexistence import make_lora
from test_segment import make_sam

ROOT = Path(__file__).resolve().parents[2]


def write_example_files(base: Path, host: Host) -> None:
    """Pictures into `base`/input, model files below `base`/models."""
    for picture in (ROOT / "assets").rglob("*.png"):
        shutil.copy(picture, base / "input")
    for folder in ("loras", "controlnet", "sams"):
        (base / "models" / folder).mkdir(parents=True, exist_ok=True)
    save_file(make_lora(), base / "models" / "loras" / "your_lora.safetensors")
    control = make_controlnet(host)
    save_file(control, base / "models" / "controlnet" / "your_controlnet.safetensors")
    torch.save(make_sam().state_dict(), base / "models" / "sams" / "sam_vit_b_01ec64.pth")


def make_controlnet(host: Host) -> dict[str, torch.Tensor]:
    """ComfyUI's own ControlNet with the tiny UNet's geometry and random weights."""
    config = host.tiny_model.comfy_unet_config(factories.TINY_UNET)
    for name in ("out_channels", "transformer_depth_output"):
        del config[name]
    network = comfy.cldm.cldm.ControlNet(
        **config, hint_channels=3, operations=comfy.ops.disable_weight_init
    )
    factories.randomize(network, seed=5)
    return {f"control_model.{name}": tensor for name, tensor in network.state_dict().items()}
