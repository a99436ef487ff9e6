"""The decoder trained on under a base's own errors: on latents that the base has restored from
noise, beside those of real pictures.

# Shapes: M pictures, H picture side (128), B crops, c latent channels, h x w latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from subject_diffusion_core.tiny.block_autoencoder import BLOCK_SIZE, BlockAutoencoder
from subject_diffusion_core.tiny.tiny_vision import VisionGeometry

from ...bases.encoders import to_pixels
from ...precision import training_device
from ...runs import load_state, save_state
from ..autoencoder import train_decoder
from ..data.library import load_library
from ..recipe import AutoencoderRecipe
from ..vision import load_vision
from .drawing import Base
from .questions import draw_question
from .restoring import restored_latents, typical_answers
from .settings import DecoderTraining, Mix

FIRST_QUESTION = 1_000_000  # far from those that are measured
SINCE = (83, 166, 249, 416, 666)
STEPS, GUIDANCE = 12, 3.0


class RestoredCrops:
    """``count`` (B) crops a step of pictures (M, H, H, 3) uint8 and of latents (M, c, h, w) that a
    base made of them."""

    def __init__(self, pictures: np.ndarray, latents: Tensor, count: int) -> None:
        self.pictures, self.latents, self.count = pictures, latents, count

    def __call__(self, recipe: AutoencoderRecipe, step: int) -> tuple[Tensor, Tensor]:
        """Latents (B, c, crop/8, crop/8) and pictures (B, 3, crop, crop), a function of the
        recipe's seed and the step alone."""
        rng = np.random.default_rng((recipe.seed, 1, step))
        side = recipe.crop // BLOCK_SIZE
        rows = rng.integers(len(self.pictures), size=self.count)
        corners = rng.integers(self.latents.shape[-1] - side + 1, size=(self.count, 2))
        latents, pictures = [], []
        for row, (y, x) in zip(rows, corners, strict=True):
            top, left = y * BLOCK_SIZE, x * BLOCK_SIZE
            latents.append(self.latents[row, :, y : y + side, x : x + side])
            pictures.append(self.pictures[row, top : top + recipe.crop, left : left + recipe.crop])
        return torch.stack(latents), to_pixels(np.stack(pictures))


def restored_crops(
    base: Base, work: Path, mix: Mix, training: DecoderTraining, path: Path
) -> RestoredCrops:
    """Of pictures of one subject as a mix of typical ones has them, the subject in the middle; a
    share each from every timestep of ``SINCE``. The latents are kept in the file ``path``."""
    count = training.num_restored
    library = load_library(work, "train", "train")
    questions = [draw_question(library, FIRST_QUESTION + index) for index in range(count)]
    pictures = typical_answers(library, work, questions, mix.views, sum(mix.size) / 2)
    prompts = [question.prompt for question in questions]
    kept = load_state(path)
    if kept is None or kept["prompts"] != prompts:
        made = []
        for number, since in enumerate(SINCE):
            own = slice(number * count // len(SINCE), (number + 1) * count // len(SINCE))
            some = questions[own], pictures[own]
            made.append(restored_latents(base, *some, since, STEPS, GUIDANCE))
            print(f"restored {own.stop} of {count}", flush=True)
        kept = {"latents": torch.cat(made), "prompts": prompts}
        save_state(path, kept)
    return RestoredCrops(pictures, kept["latents"], training.crops)


def decoder_under_errors(
    base: Base, work: Path, shards: Path, mix: Mix, training: DecoderTraining, folder: Path
) -> TrainedDecoder:
    """The decoder trained on under the errors that the base makes in pictures of ``mix``; the
    ``folder`` keeps latents and training."""
    crops = restored_crops(base, work, mix, training, folder / "restored.pt")
    weights = trained_decoder(base, crops, shards, folder / training.name, training.steps)
    return TrainedDecoder(weights, training)


def trained_decoder(
    base: Base, crops: RestoredCrops, shards: Path, out: Path, steps: int
) -> dict[str, Tensor]:
    """The base's whole autoencoder, its decoder trained on for ``steps``; the encoder stays.

    A step has ``crops`` beside the autoencoder's own of ``shards``. ``out`` keeps the training,
    which goes on where it was stopped.
    """
    autoencoder = base.base.load_vae()
    assert isinstance(autoencoder, BlockAutoencoder)
    autoencoder.requires_grad_(True)
    autoencoder.analysis.requires_grad_(False)
    out.mkdir(parents=True, exist_ok=True)
    recipe, vision = AutoencoderRecipe().going_on(steps), load_vision(VisionGeometry())
    path = train_decoder(autoencoder, shards, out, recipe, vision, training_device(), crops)
    trained: dict[str, Tensor] = torch.load(path, weights_only=True)["model"]
    return trained


@dataclass(frozen=True)
class TrainedDecoder:
    """An autoencoder's weights, and how its decoder was trained under a base's errors."""

    weights: dict[str, Tensor]
    training: DecoderTraining

    def history(self) -> str:
        """What the files say of it."""
        recipe = AutoencoderRecipe().going_on(self.training.steps)
        return (
            f"decoder: {recipe.steps} steps on at {recipe.learning_rate:g}, seed {recipe.seed}, "
            f"latent_noise {recipe.latent_noise}, beside {recipe.batch_size} crops of a step "
            f"{self.training.crops} of what this base restored from noise; latents are that base's"
        )
