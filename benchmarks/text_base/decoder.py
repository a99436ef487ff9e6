"""The decoder trained on under a base's own errors: on latents that the base has restored from
noise, beside those of real pictures.

# Shapes: M pictures, H picture side (128), B crops, c latent channels, h x w latents.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from subject_diffusion_core.tiny.block_autoencoder import BLOCK_SIZE
from subject_diffusion_core.tiny.tiny_vision import VisionGeometry
from training.bases.encoders import to_pixels
from training.precision import training_device
from training.runs import save_state
from training.toy.autoencoder import train_decoder
from training.toy.data.library import load_library
from training.toy.recipe import AutoencoderRecipe
from training.toy.stages import TRAIN_SHARDS
from training.toy.vision import load_vision

from .drawing import Base
from .questions import draw_question
from .restoring import restored_latents, typical_answers

FIRST_QUESTION = 1_000_000  # far from those that are measured
SINCE = (83, 166, 249, 416, 666)
STEPS, GUIDANCE = 12, 3.0
COUNT = 2400


class RestoredCrops:
    """Crops of pictures (M, H, H, 3) uint8 and of latents (M, c, h, w) that a base made of them."""

    def __init__(self, pictures: np.ndarray, latents: Tensor) -> None:
        self.pictures, self.latents = pictures, latents

    def __call__(self, recipe: AutoencoderRecipe, step: int) -> tuple[Tensor, Tensor]:
        """Latents (B, c, crop/8, crop/8) and pictures (B, 3, crop, crop), as many as the recipe's
        own of a step; a function of its seed and the step alone."""
        rng = np.random.default_rng((recipe.seed, 1, step))
        side = recipe.crop // BLOCK_SIZE
        rows = rng.integers(len(self.pictures), size=recipe.batch_size)
        corners = rng.integers(self.latents.shape[-1] - side + 1, size=(recipe.batch_size, 2))
        latents, pictures = [], []
        for row, (y, x) in zip(rows, corners, strict=True):
            top, left = y * BLOCK_SIZE, x * BLOCK_SIZE
            latents.append(self.latents[row, :, y : y + side, x : x + side])
            pictures.append(self.pictures[row, top : top + recipe.crop, left : left + recipe.crop])
        return torch.stack(latents), to_pixels(np.stack(pictures))


def restored_crops(
    base: Base, work: Path, views: int, size: float, path: Path, count: int = COUNT
) -> RestoredCrops:
    """Typical pictures, ``views`` of a scene, the subject's longer side ``size`` of the picture's;
    a share each from every timestep of ``SINCE``. The latents are kept in the file ``path``."""
    library = load_library(work, "train", "train")
    questions = [draw_question(library, FIRST_QUESTION + index) for index in range(count)]
    pictures = typical_answers(library, work, questions, views, size)
    if not path.exists():
        made = []
        for number, since in enumerate(SINCE):
            own = slice(number * count // len(SINCE), (number + 1) * count // len(SINCE))
            some = questions[own], pictures[own]
            made.append(restored_latents(base, *some, since, STEPS, GUIDANCE))
            print(f"restored {own.stop} of {count}", flush=True)
        save_state(path, {"latents": torch.cat(made)})
    return RestoredCrops(pictures, torch.load(path, weights_only=True)["latents"])


def trained_decoder(
    base: Base, crops: RestoredCrops, work: Path, out: Path, steps: int
) -> dict[str, Tensor]:
    """The base's whole autoencoder, its decoder trained on for ``steps``; the encoder stays.

    ``out`` keeps the training, which goes on where it was stopped.
    """
    autoencoder: nn.Module = base.base.load_vae().requires_grad_(True)
    autoencoder.get_submodule("analysis").requires_grad_(False)
    out.mkdir(parents=True, exist_ok=True)
    recipe, vision = AutoencoderRecipe().going_on(steps), load_vision(VisionGeometry())
    path = train_decoder(
        autoencoder, work / TRAIN_SHARDS, out, recipe, vision, training_device(), crops
    )
    trained: dict[str, Tensor] = torch.load(path, weights_only=True)["model"]
    return trained
