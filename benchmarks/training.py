"""Speed and memory of a training step on SD2-base's geometry with random weights, in one process.

    python -m benchmarks.training compare      the loop's step against a plain one, as a ratio
    python -m benchmarks.training one-gpu      one_gpu_sd2 at batch 1: does it fit into 24 GB?
    python -m benchmarks.training cpu-step     one bf16 step with adapters only: does it run?

``compare`` and ``one-gpu`` need a CUDA device. The plain step computes VAE latents and ViT-H tokens
in the loop and materialises every attention map, as the reference code does; both have the same
batch, precision, trained parts, optimiser and gradient checkpointing. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from training.assembly import adapter_shape, checkpoint_activations, choose_trainable
from training.attention import TokenMaps, use_plain_attention
from training.base_models import BaseModel
from training.dataset.batches import MicroBatch
from training.fused_attention import WatchedTokens, use_fused_attention
from training.loop.objective import FrozenEncoders, Objective
from training.loop.optimizers import WeightAverage, build_optimizer, trainable
from training.low_rank import add_low_rank
from training.model import SubjectDiffusionModel, build_unet
from training.recipes import TrainingRecipe, recipe_named
from training.vision import VIT_H, OpenClipVision, VisionShape

SD2_UNET: dict[str, Any] = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
SD2_TEXT: dict[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "vocab_size": 49408,
}
SD2_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
VISION = VisionShape(num_patches=256, patch_dim=1280, image_embed_dim=1024, reference_size=224)
WARM_UP_STEPS = 3


def random_module(build: Callable[[], nn.Module], device: torch.device) -> nn.Module:
    """A module made in bf16 where it is needed; norms, biases and buffers are float32."""
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            module = build()
    finally:
        torch.set_default_dtype(torch.float32)
    for tensor in [*module.buffers(), *(p for p in module.parameters() if p.ndim <= 1)]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()
    return module


def random_model(recipe: TrainingRecipe, device: torch.device) -> SubjectDiffusionModel:
    """The recipe's model on SD2-base's geometry; frozen matrices bf16, trained parameters fp32."""

    def build() -> nn.Module:
        text = CLIPTextModel(CLIPTextConfig(**SD2_TEXT))
        model = SubjectDiffusionModel(build_unet(SD2_UNET, 4), text, adapter_shape(recipe, VISION))
        if recipe.text_encoder == "lora":
            add_low_rank(model.text_encoder, recipe.text_lora_rank)
        return model

    model = random_module(build, device)
    assert isinstance(model, SubjectDiffusionModel)
    choose_trainable(model, recipe)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for module in model.unet.modules():
        if hasattr(module, "fuser"):
            module.fuser.use_sdpa = True
    if recipe.gradient_checkpointing:
        checkpoint_activations(model)
    return model.train()


class MaterialisedMaps(WatchedTokens):
    """The recorder's interface over attention that keeps whole maps."""

    def __init__(self, maps: TokenMaps) -> None:
        super().__init__()
        self.maps = maps

    def recording(self, positions: Tensor | None, max_queries: int) -> Any:  # type: ignore[override]
        """As WatchedTokens.recording; layers that are too large are left out afterwards."""
        self.maps.watch(positions)
        return _Recorded(self.maps, max_queries)


@dataclass
class _Recorded:
    maps: TokenMaps
    max_queries: int

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Any:
        return (probs for probs in self.maps.probs if probs.shape[2] <= self.max_queries)


def random_batch(recipe: TrainingRecipe, size: int, precomputed: bool) -> MicroBatch:
    """A batch of noise in the shapes of the loop, with or without what can be computed before."""
    slots, latent = recipe.num_subjects, recipe.resolution // 8
    boxes = torch.tensor([0.1, 0.1, 0.6, 0.9]).expand(size, slots, 4).clone()
    valid = torch.ones(size, slots, dtype=torch.bool)
    positions = torch.arange(slots).expand(size, -1)
    tensors = {
        "token_ids": torch.randint(0, 49000, (size, 77)),
        "placeholder_positions": positions + 10,
        "label_positions": positions + 20,
        "text_valid": valid,
        "map_valid": valid,
        "subject_valid": valid,
        "subject_boxes_xyxy": boxes,
        "subject_segmaps": torch.rand(size, slots, latent, latent),
        "location_mask": torch.rand(size, 1, latent, latent),
    }
    if precomputed:
        tensors["latents"] = torch.randn(size, 4, latent, latent)
        tensors["patch_embeds"] = torch.randn(size, slots, 256, 1280)
        tensors["image_embeds"] = torch.randn(size, slots, 1024)
    else:
        tensors["pixels"] = torch.rand(size, 3, recipe.resolution, recipe.resolution)
        tensors["references"] = torch.rand(size, slots, 3, 224, 224)
    return MicroBatch(tensors=tensors, positions=list(range(size)), names=[], skipped=[])


def frozen_encoders(device: torch.device) -> FrozenEncoders:
    """VAE and ViT-H with random weights, bf16."""
    from open_clip.transformer import VisionTransformer

    vae = random_module(lambda: AutoencoderKL(**SD2_VAE), device)
    tower = random_module(lambda: VisionTransformer(**VIT_H), device)
    vision = OpenClipVision(tower, VIT_H).to(device)
    return FrozenEncoders(vae.requires_grad_(False), vision.requires_grad_(False), torch.bfloat16)


class Step:
    """A whole training step of a recipe: losses, gradients, optimiser, moving average."""

    def __init__(
        self, recipe: TrainingRecipe, size: int, device: torch.device, precomputed: bool = True
    ) -> None:
        self.recipe, self.device = recipe, device
        model = random_model(recipe, device)
        watched = (
            use_fused_attention(model.unet)
            if precomputed
            else MaterialisedMaps(use_plain_attention(model.unet))
        )
        self.parameters = trainable(model)
        self.optimizer = build_optimizer(self.parameters, recipe)
        self.average = WeightAverage(self.parameters, recipe) if recipe.ema_decay else None
        encoders = FrozenEncoders(None, None) if precomputed else frozen_encoders(device)
        base = BaseModel(
            family="sd2", unet_arguments=SD2_UNET, latent_channels=4, unet={}, text={},
            text_config=CLIPTextConfig(**SD2_TEXT), load_vae=nn.Identity,
            prediction_type="epsilon",
        )  # fmt: skip
        self.objective = Objective(model, watched, base, recipe, encoders, device)
        self.batch = random_batch(recipe, size, precomputed)
        self.count = 0

    def __call__(self) -> float:
        """One step; returns the loss."""
        with torch.autocast(self.device.type, torch.bfloat16):
            mse, maps = self.objective(self.batch)
        loss = mse + self.recipe.map_loss_weight * maps
        loss.backward()
        nn.utils.clip_grad_norm_([p for _, p in self.parameters], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.count)
        self.count += 1
        return float(loss.detach())


def measure(step: Step, size: int, steps: int) -> dict[str, float]:
    """Samples a second and peak memory of a step on a GPU."""
    for _ in range(WARM_UP_STEPS):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    for _ in range(steps):
        loss = step()
    torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    return {
        "samples_per_second": steps * size / seconds,
        "peak_gb": torch.cuda.max_memory_allocated() / 2**30,
        "loss": loss,
    }


def compare(size: int, steps: int) -> dict[str, Any]:
    """Full step against plain step."""
    recipe = replace(recipe_named("paper_sd2"), text_encoder="full")
    device = torch.device("cuda")
    results = {}
    for name, precomputed in (("full", True), ("plain", False)):
        results[name] = measure(Step(recipe, size, device, precomputed), size, steps)
        torch.cuda.empty_cache()
    full, plain = results["full"], results["plain"]
    ratio = full["samples_per_second"] / plain["samples_per_second"]
    memory = full["peak_gb"] / plain["peak_gb"]
    return {"batch": size, **results, "speed_ratio": ratio, "memory_ratio": memory}


def one_gpu(steps: int) -> dict[str, Any]:
    """Peak memory of one_gpu_sd2 at batch 1."""
    step = Step(recipe_named("one_gpu_sd2"), 1, torch.device("cuda"))
    result: dict[str, Any] = measure(step, 1, steps)
    return {**result, "fits_24_gb": result["peak_gb"] < 24}


def cpu_step(resolution: int) -> dict[str, Any]:
    """One bf16 step with adapters only."""
    import resource  # not on Windows

    recipe = replace(
        recipe_named("one_gpu_sd2"), resolution=resolution, text_encoder="frozen", ema_decay=0.0,
        cross_attention_kv=False,
    )  # fmt: skip
    begun = time.perf_counter()
    step = Step(recipe, 1, torch.device("cpu"))
    built = time.perf_counter() - begun
    before = [p.detach().clone() for name, p in step.parameters if name.endswith("alpha_attn")]
    loss = step()
    after = [p for name, p in step.parameters if name.endswith("alpha_attn")]
    moved = sum(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    return {
        "resolution": resolution,
        "trained_parameters": sum(p.numel() for _, p in step.parameters),
        "seconds_to_build": built,
        "seconds": time.perf_counter() - begun - built,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "loss": loss,
        "gates_moved": f"{moved} of {len(after)}",
    }


def main() -> None:
    """Run one measurement."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("compare", "one-gpu", "cpu-step"))
    parser.add_argument("--batch", type=int, default=4, help="samples of a step (compare)")
    parser.add_argument("--steps", type=int, default=20, help="measured steps")
    parser.add_argument("--resolution", type=int, default=256, help="pixels (cpu-step)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.what == "cpu-step":
        result = cpu_step(arguments.resolution)
    elif not torch.cuda.is_available():
        sys.exit("error: device: expected a CUDA device, got none. Run cpu-step instead.")
    elif arguments.what == "compare":
        result = compare(arguments.batch, arguments.steps)
    else:
        result = one_gpu(arguments.steps)
    print(json.dumps({"torch": torch.__version__, **result}, indent=2))


if __name__ == "__main__":
    main()
