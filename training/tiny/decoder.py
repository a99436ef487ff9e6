"""Trains the tiny autoencoder's decoder, first on pictures' own latents, then on sampled ones too.

# Shapes: B batch, C latent channels, S crop size; latents of a crop are S/8 x S/8.
Pictures are in [-1, 1]. The decoder begins as the encoder's linear inverse. In the first stage
it sees crops' latents under a little noise. The faults of sampled latents are not white noise; in
the second stage half of each batch are latents that the diffusion model made
(``sampled_latents.py``), to be decoded to the pictures they began from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subject_diffusion_core.block_autoencoder import BLOCK_SIZE, BlockAutoencoder
from subject_diffusion_core.tiny_vision import FINE_BLOCK, TinyVision

from ..runs import RunLog, cosine_learning_rate, load_state, save_state
from .recipe import AutoencoderRecipe
from .sampled_latents import SampledLatents

STRIDE_4_BLOCK = 2
Pairs = tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class DecoderStage:
    """One stage of the decoder's training.

    Attributes:
        name: of its files. steps, learning_rate: of this stage.
        draw: step -> latents (B, C, S/8, S/8) and pictures (B, 3, S, S), a function of the step.
    """

    name: str
    steps: int
    learning_rate: float
    draw: Callable[[int], Pairs]


class CropPairs:
    """Crops of pictures and their own latents, under noise."""

    def __init__(
        self, model: BlockAutoencoder, images: np.ndarray, recipe: AutoencoderRecipe
    ) -> None:
        self.analysis = model.analysis
        self.images = images
        self.recipe = recipe

    def __call__(self, step: int) -> Pairs:
        """A batch, half of it mirrored; a function of the seed and the step alone."""
        recipe, rng = self.recipe, np.random.default_rng((self.recipe.seed, step))
        indices = rng.integers(len(self.images), size=recipe.batch_size)
        corners = rng.integers(self.images.shape[1] - recipe.crop + 1, size=(recipe.batch_size, 2))
        crops = [
            crop(self.images[i], corner, recipe.crop)[:, :: (1 if rng.random() < 0.5 else -1)]
            for i, corner in zip(indices, corners, strict=True)
        ]
        pictures = to_pictures(np.stack(crops))
        with torch.no_grad():
            latents = self.analysis(pictures.to(self.analysis.weight.device))
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        return latents + recipe.latent_noise * noise, pictures


class SampledPairs:
    """Half :class:`CropPairs`, half crops of latents that the diffusion model made."""

    def __init__(self, own: CropPairs, sampled: SampledLatents, images: np.ndarray) -> None:
        self.own = own
        self.sampled = sampled
        self.images = images

    def __call__(self, step: int) -> Pairs:
        """A batch; a function of the seed and the step alone."""
        recipe = self.own.recipe
        latents, pictures = (half[: recipe.batch_size // 2] for half in self.own(step))
        count = recipe.batch_size - len(pictures)
        rng = np.random.default_rng((recipe.seed, step, 1))
        rows = rng.integers(len(self.sampled.indices), size=count)
        num_corners = (self.images.shape[1] - recipe.crop) // BLOCK_SIZE + 1
        cells = rng.integers(num_corners, size=(count, 2))
        size = recipe.crop // BLOCK_SIZE
        made = [
            self.sampled.latents[row, :, y : y + size, x : x + size]
            for row, (y, x) in zip(rows, cells, strict=True)
        ]
        wanted = [
            crop(self.images[self.sampled.indices[row]], cell * BLOCK_SIZE, recipe.crop)
            for row, cell in zip(rows, cells, strict=True)
        ]
        made_latents = torch.from_numpy(np.stack(made)).to(latents)
        return (
            torch.cat([latents, made_latents]),
            torch.cat([pictures, to_pictures(np.stack(wanted))]),
        )


def crop(image: np.ndarray, corner: np.ndarray, size: int) -> np.ndarray:
    """(H, H, 3) -> (size, size, 3) from ``corner`` (y, x)."""
    y, x = corner
    return image[y : y + size, x : x + size]


def to_pictures(crops: np.ndarray) -> Tensor:
    """uint8 (B, S, S, 3) -> (B, 3, S, S) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1


def perceptual_distance(vision: TinyVision, images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared distance of unit-length encoder features at stride 4 and 8.

    Pictures are (B, 3, S, S) in [-1, 1], S a multiple of 16.
    """

    def features(pixels: Tensor) -> list[Tensor]:
        hidden = F.relu6(vision.stem(((pixels + 1) * 127.5 - 127) / 128))
        taps = []
        for index, block in enumerate(vision.blocks[: FINE_BLOCK + 1]):
            hidden = block(hidden)
            if index in (STRIDE_4_BLOCK, FINE_BLOCK):
                taps.append(F.normalize(hidden.float(), dim=1))
        return taps

    with torch.no_grad():
        wanted = features(targets)
    pairs = zip(features(images), wanted, strict=True)
    return sum((got - want).square().sum(1).mean() for got, want in pairs)


def color_distance(images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of 8x8 means: without it the weakest colour axis is learnt last."""
    return F.mse_loss(F.avg_pool2d(images, 8), F.avg_pool2d(targets, 8))


def decoder_loss(
    model: BlockAutoencoder, vision: TinyVision, pairs: Pairs, recipe: AutoencoderRecipe
) -> tuple[Tensor, dict[str, float]]:
    """Reconstruction in pixels, colours and features."""
    latents, images = pairs
    with torch.autocast(images.device.type, torch.bfloat16):
        decoded = model.decode(latents).float()
    mse = F.mse_loss(decoded, images)
    perceptual = perceptual_distance(vision, decoded, images)
    loss = (
        F.l1_loss(decoded, images)
        + mse
        + recipe.color_weight * color_distance(decoded, images)
        + recipe.perceptual_weight * perceptual
    )
    psnr = 10 * torch.log10(4 / mse.detach())
    values = {"psnr": psnr.item(), "perceptual": perceptual.item()}
    return loss, values


def train_decoder(
    model: BlockAutoencoder,
    stage: DecoderStage,
    work: Path,
    recipe: AutoencoderRecipe,
    vision: TinyVision,
    device: torch.device,
) -> Path:
    """Train the decoder to ``stage.steps`` (resuming); returns the whole autoencoder's file."""
    final, state_path = work / f"{stage.name}.pt", work / f"{stage.name}-state.pt"
    if final.exists():
        return final
    model = model.to(device, memory_format=torch.channels_last).requires_grad_(True)
    model.analysis.requires_grad_(False)
    vision = vision.to(device, memory_format=torch.channels_last)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, betas=(0.9, 0.95), weight_decay=0.0)
    first_step = 0
    if state := load_state(state_path):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first_step = state["step"]
    log = RunLog(work / f"{stage.name}.jsonl", stage.steps, first_step)
    for step in range(first_step, stage.steps):
        for group in optimizer.param_groups:
            group["lr"] = cosine_learning_rate(
                step, stage.steps, stage.learning_rate, recipe.warmup_steps, floor=0.02
            )
        latents, images = (half.to(device) for half in stage.draw(step))
        images = images.contiguous(memory_format=torch.channels_last)
        loss, values = decoder_loss(model, vision, (latents, images), recipe)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            log.write(step + 1, loss=loss.item(), **values)
        if (step + 1) % recipe.checkpoint_every == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save_state(state_path, {**state, "step": step + 1})
    save_state(final, {"model": model.cpu().state_dict()})
    return final
