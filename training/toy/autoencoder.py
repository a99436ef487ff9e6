"""Trains the tiny autoencoder (``BlockAutoencoder``).

# Shapes: B batch, C latent channels, H image size; latents are H/8 x H/8.
Pictures are in [-1, 1]. The encoder is fixed (``block_pca.py``) and its latents have about unit
variance, so no scaling factor is needed later. The decoder begins as the encoder's linear inverse
and is trained under a little latent noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subject_diffusion_core.tiny.block_autoencoder import BLOCK_SIZE, BlockAutoencoder
from subject_diffusion_core.tiny.tiny_vision import TinyVision

from ..bases.encoders import to_pixels
from ..loop.progress import Progress
from ..precision import fastest_autocast
from ..runs import cosine_learning_rate, load_state, save_state
from .block_pca import BlockBasis, fit_basis
from .data.shards import read_shards
from .data.split import assert_split
from .recipe import AutoencoderRecipe

MoreCrops = Callable[[AutoencoderRecipe, int], tuple[Tensor, Tensor]]


def build_autoencoder(recipe: AutoencoderRecipe) -> BlockAutoencoder:
    """The untrained autoencoder."""
    return BlockAutoencoder(latent_channels=recipe.latent_channels)


def load_images(shards: Path, num_images: int) -> np.ndarray:
    """The first ``num_images`` pictures of a shard folder, uint8 (num_images, H, H, 3)."""
    samples = list(itertools.islice(read_shards(shards), num_images))
    assert_split({e.identity for sample in samples for e in sample.entities}, "train")
    return np.stack([sample.pixels for sample in samples])


def random_crops(images: np.ndarray, recipe: AutoencoderRecipe, step: int) -> Tensor:
    """A batch of crops (B, 3, crop, crop), a function of the seed and the step alone."""
    rng = np.random.default_rng((recipe.seed, step))
    indices = rng.integers(len(images), size=recipe.batch_size)
    corners = rng.integers(images.shape[1] - recipe.crop + 1, size=(recipe.batch_size, 2))
    crops = [
        images[i, y : y + recipe.crop, x : x + recipe.crop][:, :: (1 if rng.random() < 0.5 else -1)]
        for i, (y, x) in zip(indices, corners, strict=True)
    ]
    return to_pixels(np.stack(crops))


def perceptual_distance(
    vision: TinyVision, images: Tensor, targets: Tensor, after: Sequence[int]
) -> Tensor:
    """Mean squared distance of unit-length encoder features behind the blocks ``after``.

    Pictures are (B, 3, H, H) in [-1, 1], H a multiple of 16.
    """

    def features(pixels: Tensor) -> list[Tensor]:
        hidden = F.relu6(vision.stem(((pixels + 1) * 127.5 - 127) / 128))
        taps = []
        for index, block in enumerate(vision.blocks[: max(after) + 1]):
            hidden = block(hidden)
            if index in after:
                taps.append(F.normalize(hidden.float(), dim=1))
        return taps

    with torch.no_grad():
        wanted = features(targets)
    pairs = zip(features(images), wanted, strict=True)
    return torch.stack([(got - want).square().sum(1).mean() for got, want in pairs]).sum()


def color_distance(images: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of 8x8 means: without it the weakest colour axis is learnt last."""
    return F.mse_loss(F.avg_pool2d(images, 8), F.avg_pool2d(targets, 8))


def border_distance(images: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error of the steps from one 8x8 block to the next: the grid that is seen."""
    error, last = images - targets, BLOCK_SIZE - 1
    across = error[..., BLOCK_SIZE::BLOCK_SIZE] - error[..., last:-1:BLOCK_SIZE]
    down = error[..., BLOCK_SIZE::BLOCK_SIZE, :] - error[..., last:-1:BLOCK_SIZE, :]
    return (across.abs().mean() + down.abs().mean()) / 2


def noise_levels(latents: Tensor, recipe: AutoencoderRecipe) -> Tensor:
    """(B, 1, 1, 1) standard deviations of the noise."""
    least, most = recipe.latent_noise
    share = torch.rand(len(latents), 1, 1, 1, device=latents.device)
    return least + (most - least) * share


def noised_latents(model: BlockAutoencoder, images: Tensor, recipe: AutoencoderRecipe) -> Tensor:
    """Latents (B, C, H/8, H/8) of pictures, with the recipe's noise."""
    latents = model.encode(images)
    with fastest_autocast(images.device):
        noise = torch.randn_like(latents)
        return (latents + noise_levels(latents, recipe) * noise).to(images.dtype)


def decoder_loss(
    model: BlockAutoencoder,
    vision: TinyVision,
    latents: Tensor,
    images: Tensor,
    recipe: AutoencoderRecipe,
) -> tuple[Tensor, dict[str, float]]:
    """Reconstruction of pictures in pixels, colours, features and steps between blocks."""
    with fastest_autocast(images.device):
        decoded = model.decode(latents).float()
    mse = F.mse_loss(decoded, images)
    perceptual = perceptual_distance(vision, decoded, images, recipe.perceptual_blocks)
    loss = (
        F.l1_loss(decoded, images)
        + mse
        + recipe.color_weight * color_distance(decoded, images)
        + recipe.perceptual_weight * perceptual
        + recipe.border_weight * border_distance(decoded, images)
    )
    psnr = 10 * torch.log10(4 / mse.detach())
    values = {"psnr": psnr.item(), "perceptual": perceptual.item()}
    return loss, values


def fit_encoder(shards: Path, work: Path, recipe: AutoencoderRecipe) -> Path:
    """Fit the encoder; returns ``basis.pt``, the linear transform."""
    path = work / "basis.pt"
    if not path.exists():
        basis = fit_basis(load_images(shards, recipe.num_images // 2), recipe.latent_channels)
        save_basis(path, basis)
    return path


def save_basis(path: Path, basis: BlockBasis) -> None:
    """Write what :func:`load_basis` reads."""
    save_state(path, {"center": basis.center, "weight": basis.weight})


def load_basis(path: Path) -> BlockBasis:
    """What :func:`fit_encoder` wrote."""
    return BlockBasis(**torch.load(path, map_location="cpu", weights_only=True))


def train_decoder(
    model: BlockAutoencoder,
    shards: Path,
    work: Path,
    recipe: AutoencoderRecipe,
    vision: TinyVision,
    device: torch.device,
    more_crops: MoreCrops | None = None,
) -> Path:
    """Train what is not frozen in ``model`` (resuming); returns the whole autoencoder's file.

    ``more_crops`` gives every step further latents (B, C, crop/8, crop/8) beside the recipe's
    own, and the pictures (B, 3, crop, crop) that the decoder is to make of them.
    """
    final, state_path = work / "autoencoder.pt", work / "autoencoder-state.pt"
    if final.exists():
        return final
    steps = recipe.steps
    images = load_images(shards, recipe.num_images)
    for network in (model, vision):
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
    )
    first_step = 0
    if state := load_state(state_path):
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first_step = state["step"]
    (work / "autoencoder").mkdir(exist_ok=True)
    log = Progress(work / "autoencoder", steps, recipe.batch_size, first_step)
    for step in range(first_step, steps):
        torch.manual_seed(recipe.seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = cosine_learning_rate(
                step, steps, recipe.learning_rate, recipe.warmup_steps, floor=0.02
            )
        batch = random_crops(images, recipe, step)
        batch = batch.to(device, memory_format=torch.channels_last)
        latents = noised_latents(model, batch, recipe)
        if more_crops is not None:
            further, wanted = (tensor.to(device) for tensor in more_crops(recipe, step))
            latents, batch = torch.cat([latents, further]), torch.cat([batch, wanted])
        loss, values = decoder_loss(model, vision, latents, batch, recipe)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        if (step + 1) % 50 == 0:
            log.report(step + 1, loss=loss.item(), **values)
        if (step + 1) % recipe.checkpoint_every == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            save_state(state_path, {**state, "step": step + 1})
    save_state(final, {"model": model.cpu().state_dict()})
    return final
