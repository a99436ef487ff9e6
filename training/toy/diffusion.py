"""The diffusion stages: everything jointly, then Subject-Diffusion on the frozen base.

# Shapes: B batch, N subject slots, c latent channels, h x w latents.
The objective is Subject-Diffusion eq. 3 with v-prediction: MSE(v) + lambda * map loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from subject_diffusion_core.losses import cross_attention_map_loss

from ..methods.subject_diffusion.model import Conditioning, ContextAdapter, SubjectDiffusionModel
from ..networks.attention import TokenMaps, use_plain_attention
from ..optimization import MasterWeights, fastest_dtype
from ..runs import RunLog, cosine_learning_rate, load_state, save_state
from .batches import Batch, BatchMaker
from .recipe import DiffusionRecipe

GRADIENT_NORM_LIMIT = 1.0


def noise_scheduler() -> DDPMScheduler:
    """Stable Diffusion's noise schedule with v-prediction."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
    )


def weighted_mse(prediction: Tensor, target: Tensor, mask: Tensor, inside_weight: float) -> Tensor:
    """Mean squared error, ``inside_weight`` times heavier inside the boxes.

    ``prediction``, ``target`` (B, c, h, w); ``mask`` (B, 1, h, w) in 0..1.
    """
    weight = 1 + (inside_weight - 1) * mask
    return (weight * (prediction.float() - target.float()).square()).mean() / weight.mean()


def map_loss(token_maps: TokenMaps, batch: Batch, kind: str) -> Tensor:
    """Cross-attention map loss, averaged over the label's and the placeholder's tokens."""
    num_subjects = batch.map_valid.shape[1]
    halves = (slice(None, num_subjects), slice(num_subjects, None))
    losses = [
        cross_attention_map_loss(
            [probs[..., half].float() for probs in token_maps.probs],
            batch.subject_segmaps,
            batch.map_valid,
            kind=kind,  # type: ignore[arg-type]
        )
        for half in halves
    ]
    return torch.stack(losses).mean()


@dataclass
class DiffusionStep:
    """Computes the loss of one batch."""

    model: SubjectDiffusionModel
    token_maps: TokenMaps
    scheduler: DDPMScheduler
    recipe: DiffusionRecipe
    dtype: torch.dtype

    def __call__(self, batch: Batch, noise_seed: int) -> tuple[Tensor, dict[str, float]]:
        """Loss and its parts. Noise and timesteps are a function of ``noise_seed``."""
        generator = torch.Generator().manual_seed(noise_seed)  # the same noise on every device
        latents = batch.latents
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        steps = torch.randint(0, 1000, (len(latents),), generator=generator).to(latents.device)
        noisy = self.scheduler.add_noise(latents, noise, steps)
        target = self.scheduler.get_velocity(latents, noise, steps)
        conditioning = batch.conditioning.to(latents.device, self.dtype)
        controlled = self.recipe.map_loss_kind != "off"
        self.token_maps.watch(watched_positions(conditioning) if controlled else None)
        prediction = self.model(noisy.to(self.dtype), steps, conditioning)
        mse = weighted_mse(
            prediction, target, batch.conditioning.location_mask, self.recipe.inside_weight
        )
        maps = mse.new_zeros(())
        if controlled:
            maps = map_loss(self.token_maps, batch, self.recipe.map_loss_kind)
        self.token_maps.watch(None)
        loss = mse + self.recipe.map_loss_weight * maps
        return loss, {"mse": mse.item(), "maps": maps.item()}


def watched_positions(conditioning: Conditioning) -> Tensor:
    """Text positions the map loss looks at: labels, then placeholders; (B, 2N), empty = 0."""
    positions = [conditioning.label_positions, conditioning.placeholder_positions]
    return torch.cat(positions, dim=1).clamp(min=0)


def choose_adapter_kernels(model: SubjectDiffusionModel, dtype: torch.dtype) -> None:
    """The fused kernel where it trains faster than plain products: not in bf16 on CPUs."""
    fused = model.unet.device.type != "cpu" or dtype == torch.float32
    for module in model.modules():
        if isinstance(module, ContextAdapter):
            module.use_sdpa = fused


def train_diffusion(
    model: SubjectDiffusionModel,
    batches: BatchMaker,
    recipe: DiffusionRecipe,
    work: Path,
    name: str,
    dtype: torch.dtype | None = None,
    on_checkpoint: Callable[[int, MasterWeights], None] | None = None,
) -> dict[str, Tensor]:
    """Train the model's trainable parameters to ``recipe.steps``, resuming; returns their EMA.

    Runs where the model is, in ``dtype`` (None: the fastest there); the result is on the CPU.
    """
    final = work / f"{name}.pt"
    if done := load_state(final):
        return done["ema"]
    dtype = dtype or fastest_dtype(model.unet.device)
    model = model.to(dtype).train()
    choose_adapter_kernels(model, dtype)
    weights = MasterWeights(
        model.named_parameters(), ema_decay=recipe.ema_decay, weight_decay=recipe.weight_decay
    )
    step_loss = DiffusionStep(
        model, use_plain_attention(model.unet), noise_scheduler(), recipe, dtype
    )
    state_path = work / f"{name}-state.pt"
    first_step = 0
    if state := load_state(state_path):
        weights.load_state_dict(state["weights"])
        first_step = state["step"]
    log = RunLog(work / f"{name}.jsonl", recipe.steps, first_step)
    means: dict[str, float] = {}
    for step in range(first_step, recipe.steps):
        batch = batches.draw(step).to(model.unet.device)
        loss, values = step_loss(batch, recipe.seed * 10_000_019 + step)
        loss.backward()
        rate = cosine_learning_rate(step, recipe.steps, recipe.learning_rate, recipe.warmup_steps)
        norm = weights.step(rate, GRADIENT_NORM_LIMIT, step)
        for key, value in {**values, "norm": norm}.items():
            means[key] = 0.98 * means.get(key, value) + 0.02 * value
        if (step + 1) % 50 == 0:
            log.write(step + 1, **means)
        if (step + 1) % recipe.checkpoint_every == 0:
            save_state(state_path, {"weights": weights.state_dict(), "step": step + 1})
            if on_checkpoint:
                on_checkpoint(step + 1, weights)
    averaged = {name: tensor.cpu() for name, tensor in weights.averaged().items()}
    save_state(final, {"ema": averaged})
    return averaged
