"""What a run has made: the model of a checkpoint, and the adapter in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from subject_diffusion_core.files.adapter import Adapter
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_base import TinyBase

from ..bases.base_model import BaseModel
from ..bases.vision import vision_shape
from ..methods.registry import method_of
from ..methods.subject_diffusion.assembly import (
    adapter_config,
    adapter_from_model,
    with_text_prefix,
)
from ..recipes import TrainingRecipe
from .checkpoints import Snapshot, load_snapshot


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A checkpoint's model in fp32; ``averaged`` says that it has the moving average."""

    model: Any
    base: BaseModel
    recipe: TrainingRecipe
    snapshot: Snapshot
    averaged: bool

    def provenance(self) -> dict[str, Any]:
        """What made the weights, for their file."""
        state = self.snapshot.state
        return {
            "recipe": self.recipe.as_dict(),
            "step": self.snapshot.step,
            "moving_average": self.averaged,
            "num_skipped": state["num_skipped"],
            "features": state["features"],
            "torch": torch.__version__,
        }

    def adapter(self, provenance: Mapping[str, Any]) -> Adapter:
        """Everything that training added to the base, as a file holds it."""
        vision = vision_shape(self.recipe, self.base)
        config = adapter_config(self.model, self.base, self.recipe, vision, provenance)
        return adapter_from_model(self.model, config, self.recipe)

    def write_adapter(self, path: Path, int8: bool = False) -> None:
        """The adapter's file, in its method's own format."""
        vision = vision_shape(self.recipe, self.base)
        method_of(self.recipe).write_file(
            path, self.model, self.provenance(), int8,
            base=self.base, recipe=self.recipe, vision=vision,
        )  # fmt: skip

    def tiny_base(self, source: Path) -> TinyBase:
        """The small base's file ``source`` with the UNet and the text encoder of the model."""
        stored = tiny_base.load(source)
        unet = {n: t.float() for n, t in self.model.unet.state_dict().items() if n in stored.unet}
        unet["conv_in.weight"] = unet["conv_in.weight"][:, : self.base.latent_channels].clone()
        state = self.model.text_encoder.state_dict()
        text = {with_text_prefix(name): tensor.float() for name, tensor in state.items()}
        config = {**stored.config, "provenance": self.provenance()}
        return replace(stored, config=config, unet=unet, text_encoder=text)


def load_trained(
    folder: Path,
    base: BaseModel,
    recipe: TrainingRecipe,
    init: Path | None = None,
    use_ema: bool = True,
) -> TrainedModel:
    """The model of a checkpoint folder. ``init``: what the run began with; parts that the recipe
    does not train keep it."""
    model = method_of(recipe).build_model(base, recipe, vision_shape(recipe, base), init)
    snapshot = load_snapshot(folder)
    averaged = use_ema and bool(snapshot.ema)
    model.load_state_dict(snapshot.ema if averaged else snapshot.weights, strict=False)
    return TrainedModel(model=model, base=base, recipe=recipe, snapshot=snapshot, averaged=averaged)
