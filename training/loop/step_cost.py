"""What a recipe's step costs a GPU, in memory and arithmetic, counted without one.

A whole step runs on fake tensors: the loop's own model, objective and backward pass, of which every
tensor's size is noted while it lives. What CUDA keeps for itself, the workspaces of its kernels and
the gaps between tensors are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..bases.architectures import architecture_of
from ..bases.encoders import FrozenEncoders
from ..bases.loading import random_base
from ..bases.vision import VisionShape, vision_shape
from ..dataset.batches import MicroBatch
from ..methods.objective import Objective
from ..methods.registry import assemble
from ..networks.fused_attention import use_fused_attention
from ..recipes.configuration import TrainingRecipe
from .fake_tensors import AllocationMeter, count_flops, cuda_autocast_rules, nothing_computed
from .optimizers import trainable

MOMENT_BYTES = {"adamw": 8, "adamw8bit": 2}  # of both moments of a parameter
AVERAGE_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """Bytes on the GPU at the fullest moment of a step, of one process.

    Attributes:
        weights: of the whole model. gradients: of what is trained. buckets: DDP's copy of them.
        moments: of the optimiser. average: the moving average.
        activations: everything else: what the backward pass needs, and what is on its way.
    """

    weights: int
    gradients: int
    buckets: int
    moments: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        parts = (self.weights, self.gradients, self.buckets, self.moments, self.average)
        return sum(parts) + self.activations


def full_batch(recipe: TrainingRecipe, vision: VisionShape, latent_channels: int) -> MicroBatch:
    """A micro-batch of noise without empty slots, latents and tokens computed before."""
    size, slots, latent = recipe.micro_batch_size, recipe.num_subjects, recipe.resolution // 8
    valid = torch.ones(size, slots, dtype=torch.bool)
    positions = torch.arange(slots).expand(size, -1)
    tensors = {
        "token_ids": torch.randint(0, 49000, (size, 77)),
        "placeholder_positions": positions + 10,
        "label_positions": positions + 20,
        "text_valid": valid,
        "map_valid": valid,
        "subject_valid": valid,
        "adapter_scale": torch.ones(size),
        "subject_boxes_xyxy": torch.tensor([0.1, 0.1, 0.6, 0.9]).repeat(size, slots, 1),
        "subject_segmaps": torch.rand(size, slots, latent, latent),
        "location_mask": torch.rand(size, 1, latent, latent),
        "latents": torch.randn(size, latent_channels, latent, latent),
        "patch_embeds": torch.randn(size, slots, vision.num_patches, vision.patch_dim),
        "image_embeds": torch.randn(size, slots, vision.image_embed_dim),
    }
    return MicroBatch(tensors=tensors, positions=list(range(size)), names=[], skipped=[])


def prepare_step(
    recipe: TrainingRecipe,
) -> tuple[nn.Module, Objective, MicroBatch]:
    """Model, objective and a micro-batch of a recipe on a base with random weights; latents and
    tokens are there, as if computed before.

    Raises:
        ValueError: the recipe's architecture is in its base's file alone (tiny).
    """
    base = random_base(recipe, architecture_of(recipe))
    vision = vision_shape(recipe, base)
    model = assemble(recipe, base, vision).train()
    watched, encoders = use_fused_attention(model.unet), FrozenEncoders(None, None)
    objective = Objective(model, watched, base, recipe, encoders, torch.device("cpu"))
    return model, objective, full_batch(recipe, vision, base.latent_channels)


def count_memory(recipe: TrainingRecipe) -> StepMemory:
    """Memory of a step, in half a minute. Raises what :func:`prepare_step` does."""
    with nothing_computed():
        model, objective, batch = prepare_step(recipe)
        weights, peak = peak_of_step(model, objective, batch, recipe)
    trained = [parameter for _, parameter in trainable(model)]
    count, gradients = (sum(size(p) for p in trained) for size in (Tensor.numel, num_bytes))
    return StepMemory(
        weights=weights,
        gradients=gradients,
        buckets=gradients if recipe.num_processes > 1 else 0,
        moments=0 if recipe.offload_optimizer else count * MOMENT_BYTES[recipe.optimizer],
        average=count * AVERAGE_BYTES if recipe.ema_decay and recipe.ema_device == "same" else 0,
        activations=peak - weights - gradients,
    )


def count_sample_flops(recipe: TrainingRecipe) -> int:
    """Floating-point operations of matrix products and convolutions for one sample, forward and
    backward. Raises what :func:`prepare_step` does."""
    with nothing_computed():
        _, objective, batch = prepare_step(recipe)
        flops = count_flops(lambda: backpropagate(objective, batch, recipe))
    return flops // recipe.micro_batch_size


def peak_of_step(
    model: nn.Module, objective: Objective, batch: MicroBatch, recipe: TrainingRecipe
) -> tuple[int, int]:
    """Bytes of the model, and the most there are during forward and backward passes of a step.

    Where a step has several micro-batches, all but the first find gradients already there: two
    stand for any number of them.
    """
    meter = AllocationMeter()
    for tensor in [*model.parameters(), *model.buffers()]:
        meter.note(tensor)
    weights = meter.live
    with meter, cuda_autocast_rules():
        for _ in range(min(2, recipe.accumulation(recipe.num_processes))):
            backpropagate(objective, batch, recipe)
    return weights, meter.peak


def backpropagate(objective: Objective, batch: MicroBatch, recipe: TrainingRecipe) -> None:
    """Gradients of one micro-batch."""
    low = recipe.precision == "bfloat16"
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        mse, maps = objective(batch)
    torch.autograd.backward(mse + recipe.map_loss_weight * maps)


def num_bytes(tensor: Tensor) -> int:
    """Size of a tensor's values."""
    return tensor.numel() * tensor.element_size()
