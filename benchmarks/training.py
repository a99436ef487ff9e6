"""Speed and memory of a training step on SD2-base's geometry with random weights, in one process.

    python -m benchmarks.training compare      the loop's step against a plain one, as a ratio
    python -m benchmarks.training one-gpu      one_gpu_sd2 at batch 1 and its own: 24 GB?
    python -m benchmarks.training cpu-step     one bf16 step with adapters only: does it run?
    python -m benchmarks.training work         arithmetic of both steps of compare, counted
    python -m benchmarks.training costs        the figures of docs/training, counted

``compare`` and ``one-gpu`` need a CUDA device; ``work`` and ``costs`` count without running
anything; ``work`` leaves out what reading and writing memory takes. The plain step computes VAE
latents and ViT-H tokens in the loop and materialises every attention map, as the reference code
does; both have the same batch, precision, trained parts, optimiser and gradient checkpointing.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.plain_attention import TokenMaps, use_plain_attention
from training.bases.architectures import SD2
from training.bases.base_model import BaseModel
from training.bases.encoders import FrozenEncoders, encode_latents
from training.bases.vision import VIT_H, OpenClipVision, VisionShape
from training.commands.recipes import GIB, RATE
from training.dataset.batches import MicroBatch
from training.loop.optimizers import WeightAverage, build_optimizer, trainable
from training.loop.step_cost import (
    count_flops,
    count_memory,
    count_sample_flops,
    full_batch,
    nothing_computed,
)
from training.methods.objective import Objective
from training.methods.registry import checkpoint_activations
from training.methods.subject_diffusion.assembly import adapter_shape, choose_trainable
from training.methods.subject_diffusion.model import SubjectDiffusionModel, build_unet
from training.networks.fused_attention import WatchedTokens, use_fused_attention
from training.networks.low_rank import add_low_rank
from training.recipes import TrainingRecipe, recipe_named, with_settings

VISION = VisionShape(num_patches=256, patch_dim=1280, image_embed_dim=1024, reference_size=224)
WARM_UP_STEPS = 3
COUNTED = (
    "one_gpu_sd2", "one_gpu_sd15", "paper_sd2", "one_gpu_sd2 micro_batch_size=1",
    "one_gpu_sd2 micro_batch_size=8", "one_gpu_sd2 micro_batch_size=16 gradient_checkpointing=true",
    "one_gpu_sd2 num_subjects=4", "one_gpu_sd15 num_subjects=8",
    "one_gpu_sd15 gradient_checkpointing=false micro_batch_size=2",
    "one_gpu_sd15 gradient_checkpointing=false micro_batch_size=2 optimizer=adamw8bit",
)  # fmt: skip
Built = TypeVar("Built", bound=nn.Module)


def random_module(build: Callable[[], Built], device: torch.device) -> Built:
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
        text = CLIPTextModel(CLIPTextConfig(**SD2.text))
        model = SubjectDiffusionModel(build_unet(SD2.unet, 4), text, adapter_shape(recipe, VISION))
        if recipe.text_encoder == "lora":
            add_low_rank(model.text_encoder, recipe.text_lora_rank)
        return model

    model = random_module(build, device)
    assert isinstance(model, SubjectDiffusionModel)
    choose_trainable(model, recipe)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if recipe.gradient_checkpointing:
        checkpoint_activations(model)
    return model.train()


class MaterialisedMaps(WatchedTokens):
    """The recorder's interface over attention that keeps whole maps."""

    def __init__(self, maps: TokenMaps) -> None:
        super().__init__()
        self.maps = maps

    def recording(self, positions: Tensor | None, max_queries: int) -> Any:
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


def with_pictures(batch: MicroBatch, recipe: TrainingRecipe) -> MicroBatch:
    """The batch with noise for pictures in place of what can be computed from them before."""
    done = ("latents", "patch_embeds", "image_embeds")
    tensors = {name: tensor for name, tensor in batch.tensors.items() if name not in done}
    size, side = len(batch.positions), recipe.resolution
    tensors["pixels"] = torch.rand(size, 3, side, side)
    tensors["references"] = torch.rand(
        size, recipe.num_subjects, 3, VISION.reference_size, VISION.reference_size
    )
    return replace(batch, tensors=tensors)


def random_encoders(device: torch.device) -> tuple[AutoencoderKL, OpenClipVision]:
    """VAE and ViT-H with random weights."""
    from open_clip.transformer import VisionTransformer

    vae = random_module(lambda: AutoencoderKL(**SD2.vae), device)
    tower = random_module(lambda: VisionTransformer(**VIT_H), device)
    vision = OpenClipVision(tower, VIT_H)
    for encoder in (vae, vision):
        encoder.requires_grad_(False)
    return vae, vision


def frozen_encoders(device: torch.device) -> FrozenEncoders:
    """What the loop uses where nothing was computed before, bf16."""
    vae, vision = random_encoders(device)
    return FrozenEncoders(vae, vision.to(device), torch.bfloat16)


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
            family="sd2", unet_arguments=SD2.unet, latent_channels=4, unet={}, text={},
            text_config=CLIPTextConfig(**SD2.text), load_vae=lambda: AutoencoderKL(**SD2.vae),
            prediction_type="epsilon",
        )  # fmt: skip
        self.objective = Objective(model, watched, base, recipe, encoders, device)
        self.batch = full_batch(replace(recipe, micro_batch_size=size), VISION, 4)
        if not precomputed:
            self.batch = with_pictures(self.batch, recipe)
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
    """Peak memory of one_gpu_sd2, measured beside counted, at batch 1 and its own micro-batch."""
    results = {}
    for size in (1, recipe_named("one_gpu_sd2").micro_batch_size):
        recipe = replace(recipe_named("one_gpu_sd2"), micro_batch_size=size)
        measured: dict[str, Any] = measure(Step(recipe, size, torch.device("cuda")), size, steps)
        torch.cuda.empty_cache()
        counted = count_memory(recipe).total / 2**30
        fits = measured["peak_gb"] < 24
        results[f"batch {size}"] = {**measured, "counted_gb": counted, "fits_24_gb": fits}
    return results


def work(size: int) -> dict[str, Any]:
    """What the full step computes, and what the plain one adds: VAE and ViT-H in every step.

    Materialised attention maps are no more arithmetic than fused ones: they cost memory traffic.
    """
    recipe, device = replace(recipe_named("paper_sd2"), text_encoder="full"), torch.device("cpu")
    with nothing_computed(), torch.autocast("cpu", torch.bfloat16):
        step = Step(recipe, size, device)
        vae, vision = random_encoders(device)
        pictures = with_pictures(step.batch, recipe).tensors
        parts = {
            "step": count_flops(step),
            "vae": count_flops(lambda: encode_latents(vae, pictures["pixels"])),
            "vision": count_flops(lambda: vision(pictures["references"].flatten(0, 1))),
        }
        checkpointed = replace(recipe, gradient_checkpointing=True)
        again = count_flops(Step(checkpointed, size, device))
    return {
        "batch": size,
        "tflops": {name: count / 1e12 for name, count in parts.items()},
        "plain_to_full": sum(parts.values()) / parts["step"],
        "checkpointed_to_full": again / parts["step"],
    }


def costs() -> dict[str, Any]:
    """GiB of the recipes that docs/training names, and hours of one_gpu_sd2 at 50 TFLOP/s."""
    found: dict[str, Any] = {}
    for words in COUNTED:
        name, *settings = words.split()
        found[words] = round(
            count_memory(with_settings(recipe_named(name), settings)).total / GIB, 1
        )
        print(f"{words}: {found[words]}", file=sys.stderr, flush=True)
    recipe = recipe_named("one_gpu_sd2")
    operations = recipe.steps * recipe.global_batch_size * count_sample_flops(recipe)
    return {"gib": found, "hours": round(operations / RATE / 3600, 1)}


def cpu_step(resolution: int) -> dict[str, Any]:
    """One bf16 step with adapters only; the process's memory beside what is counted of it."""
    import resource  # not on Windows

    recipe = replace(
        recipe_named("one_gpu_sd2"), resolution=resolution, text_encoder="frozen", ema_decay=0.0,
        cross_attention_kv=False, gradient_checkpointing=True, global_batch_size=1,
        micro_batch_size=1,
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
        "counted_gb": count_memory(recipe).total / 2**30,
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
    parser.add_argument("what", choices=("compare", "one-gpu", "cpu-step", "work", "costs"))
    parser.add_argument("--batch", type=int, default=4, help="samples of a step (compare, work)")
    parser.add_argument("--steps", type=int, default=20, help="measured steps")
    parser.add_argument("--resolution", type=int, default=256, help="pixels (cpu-step)")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.what == "cpu-step":
        result = cpu_step(arguments.resolution)
    elif arguments.what == "costs":
        result = costs()
    elif arguments.what == "work":
        result = work(arguments.batch)
    elif not torch.cuda.is_available():
        sys.exit("error: device: expected a CUDA device, got none. Run cpu-step or work instead.")
    elif arguments.what == "compare":
        result = compare(arguments.batch, arguments.steps)
    else:
        result = one_gpu(arguments.steps)
    print(json.dumps({"torch": torch.__version__, **result}, indent=2))


if __name__ == "__main__":
    main()
