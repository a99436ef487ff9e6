"""Whether features computed before are those of this base and of its image encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..recipes.configuration import TrainingRecipe
from .base_model import BaseModel
from .encoders import weights_mark
from .vision import load_vision


def require_own_features(
    features: Mapping[str, str], base: BaseModel, recipe: TrainingRecipe, vision: Path | None
) -> None:
    """Refuse latents and tokens of other networks: the marks in ``features`` are hashes of their
    weights. Tokens are checked where the image encoder is at hand."""
    found = {}
    if "latents" in features:
        found["latents"] = weights_mark(base.load_vae())
    at_hand = base.vision is not None or recipe.random_base or vision is not None
    if "tokens" in features and recipe.has_references and at_hand:
        found["tokens"] = weights_mark(load_vision(vision, recipe, base))
    for kind, mark in found.items():
        if mark != features[kind]:
            network = "autoencoder" if kind == "latents" else "image encoder"
            raise ValueError(
                f"--data: expected {kind} of this base's {network}, got those of another one "
                f"(mark {features[kind]}, not {mark}). Run precompute again with this base."
            )
