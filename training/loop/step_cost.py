"""What a recipe's step costs a GPU, in memory and arithmetic, counted without one.

A whole step runs on PyTorch's fake tensors, which have shapes and no values: the loop's own model,
objective and backward pass, of which every tensor's size is noted while it lives. What CUDA keeps
for itself, the workspaces of its kernels and the gaps between tensors are not counted.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import (
    FlopCounterMode,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

from ..bases.architectures import architecture_of
from ..bases.encoders import FrozenEncoders
from ..bases.loading import random_base
from ..bases.vision import VisionShape, vision_shape
from ..dataset.batches import MicroBatch
from ..methods.objective import Objective
from ..methods.registry import assemble
from ..networks.fused_attention import use_fused_attention
from ..recipes.configuration import TrainingRecipe
from .optimizers import trainable

ALLOCATION_UNIT = 512  # bytes; CUDA's allocator rounds up to it
MOMENT_BYTES = {"adamw": 8, "adamw8bit": 2}  # of both moments of a parameter
AVERAGE_BYTES = 4
# PyTorch counts the fused attention of CUDA alone; a CPU, where this runs, calls another one.
_CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
        lambda *shapes, **_: sdpa_flop_count(*shapes[:3])
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda *shapes, **_: sdpa_backward_flop_count(*shapes[:4])
    ),
}


@contextlib.contextmanager
def nothing_computed() -> Iterator[None]:
    """Every tensor made under this is a fake one, and a batch's masks are taken to be full."""
    with FakeTensorMode(), FullBatchValues():  # type: ignore[no-untyped-call]
        yield


def count_flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of matrix products and convolutions while ``run`` runs."""
    with FlopCounterMode(display=False, custom_mapping=_CPU_ATTENTION) as counter:
        run()
    return int(counter.get_total_flops())


class FullBatchValues(TorchDispatchMode):
    """Answers what fake tensors cannot: values that shapes and branches depend on.

    A mask's ``nonzero`` finds every element, as in a batch without empty slots; a condition read
    from a tensor is false, as where nothing is out of range.
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0
        if func is torch.ops.aten.nonzero.default:
            (mask,) = args
            return mask.new_empty((mask.numel(), mask.ndim), dtype=torch.int64)
        return func(*args, **(kwargs or {}))


class AllocationMeter(TorchDispatchMode):
    """Counts the bytes of all tensors that live, made by any operation under it.

    Attributes:
        live, peak: bytes now, and the most there ever were.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def note(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once, until it is freed."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = -(-storage.nbytes() // ALLOCATION_UNIT) * ALLOCATION_UNIT
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tree_iter(output):
            if isinstance(tensor, Tensor):
                self.note(tensor)
        return output


def in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """What CUDA's autocast does with a function of its float32 list."""

    def widened(value: Any) -> Any:
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.float() if floating else value

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_autocast_enabled("cpu"):
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            return function(*map(widened, args), **{k: widened(v) for k, v in kwargs.items()})

    return wrapped


@contextlib.contextmanager
def cuda_autocast_rules() -> Iterator[None]:
    """CPU autocast keeps norms and softmax in bf16; CUDA's, which is counted here, does not."""
    functional = torch.nn.functional
    with contextlib.ExitStack() as stack:
        for name in ("layer_norm", "group_norm", "softmax"):
            wide = in_float32(getattr(functional, name))
            stack.enter_context(patch.object(functional, name, wide))
        stack.enter_context(patch.object(torch, "softmax", in_float32(torch.softmax)))
        yield


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
        return sum(astuple(self))


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


def prepare_step(recipe: TrainingRecipe) -> tuple[nn.Module, Objective, MicroBatch]:
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
    """Memory of a step, counted without values. Raises what :func:`prepare_step` does."""
    with nothing_computed():
        model, objective, batch = prepare_step(recipe)
        weights, peak = peak_of_step(model, objective, batch, recipe)
    trained = [parameter for _, parameter in trainable(model)]
    count, gradients = sum(p.numel() for p in trained), sum(p.nbytes for p in trained)
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

    Where a step has several micro-batches, all but the first find gradients already there, and
    hold the most: one of them stands for all.
    """
    meter = AllocationMeter()
    for tensor in [*model.parameters(), *model.buffers()]:
        meter.note(tensor)
    weights = meter.live
    with meter, cuda_autocast_rules():
        if recipe.accumulation(recipe.num_processes) > 1:
            for _, parameter in trainable(model):
                parameter.grad = torch.zeros_like(parameter)
        backpropagate(objective, batch, recipe)
    return weights, meter.peak


def backpropagate(objective: Objective, batch: MicroBatch, recipe: TrainingRecipe) -> None:
    """Gradients of one micro-batch."""
    low = recipe.precision == "bfloat16"
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        mse, maps = objective(batch)
    torch.autograd.backward(mse + recipe.map_loss_weight * maps)
