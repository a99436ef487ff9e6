"""A trained base as the small model's two files, for `python -m training tiny --go-on-from`.

An adapter's file holds a text encoder, keys and values and `conv_in` of its own, which take the
place of the base's. Beside a base trained on, they are that base's: only the gated layers, the
grounding net, the projector and the mask's kernel are still the stored adapter's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.adapter import Adapter
from subject_diffusion_core.files.measured_guidance import SCORES_KEY
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_base import TOKEN_TABLE, TinyBase
from training.loop.trained import TrainedModel
from training.toy.export import full_token_table
from training.toy.files import ADAPTER_NAME, BASE_NAME
from training.toy.recipe import AutoencoderRecipe

from .variants import Variant


@dataclass(frozen=True)
class TrainedDecoder:
    """An autoencoder's weights, and the steps of its decoder under a base's errors."""

    weights: dict[str, Tensor]
    steps: int

    def history(self) -> str:
        """What the files say of it."""
        recipe = AutoencoderRecipe().going_on(self.steps)
        return (
            f"decoder: {recipe.steps} steps on at {recipe.learning_rate:g}, seed {recipe.seed}, "
            f"latent_noise {recipe.latent_noise}, as many crops again of what this base restored "
            "from noise; latents are that base's"
        )


def base_of(
    trained: TrainedModel, variant: Variant, source: Path, decoder: TrainedDecoder | None = None
) -> TinyBase:
    """The base's file ``source`` with the trained UNet, text encoder and words, and with another
    decoder, if any; its provenance says so."""
    base = trained.tiny_base(source)
    assert trained.base.vocabulary is not None
    table = full_token_table(base.text_encoder[TOKEN_TABLE], trained.base.vocabulary)
    made_by = base.config["provenance"]
    before = tiny_base.load(source).config["provenance"]
    told = f"{history(trained, variant)}, from the base {mark(source)}, whose autoencoder it keeps"
    told_all = with_history(before | {"text_to_image": made_by}, told)
    vae = base.vae
    if decoder is not None:
        told_all, vae = with_history(told_all, decoder.history()), decoder.weights
    text = {**base.text_encoder, TOKEN_TABLE: table}
    return replace(base, config={**base.config, "provenance": told_all}, text_encoder=text, vae=vae)


def history(trained: TrainedModel, variant: Variant) -> str:
    """What the files say of the training."""
    recipe = trained.recipe
    lessons = " after lessons of its text encoder" if variant.lesson_steps else ""
    lessons += f" and the run {variant.goes_on!r}" if variant.goes_on else ""
    return (
        f"text to image{lessons}: {recipe.steps} steps of {recipe.global_batch_size} at "
        f"{recipe.learning_rate:g}, seed {recipe.seed}, pictures {variant.mix!r}, by "
        f"benchmarks/text_base, variant {variant.name!r}"
    )


def mark(path: Path) -> str:
    """A file in twelve digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def with_history(provenance: Mapping[str, Any], sentence: str) -> dict[str, Any]:
    """``provenance`` with one sentence more, and without scores, which are of what was before."""
    kept = {key: value for key, value in provenance.items() if key != SCORES_KEY}
    return kept | {"history": [*provenance.get("history", []), sentence]}


def adapter_on(base: TinyBase, adapter: Adapter) -> Adapter:
    """A stored adapter with a base's own text encoder, keys, values and ``conv_in``."""
    unet = {
        name: tensor if ".fuser." in name else base.unet[name].to(tensor)
        for name, tensor in adapter.unet.items()
    }
    kernel = adapter.unet["conv_in.weight"]
    own = unet["conv_in.weight"]
    unet["conv_in.weight"] = torch.cat([own, kernel[:, own.shape[1] :]], dim=1)
    text = {name: base.text_encoder[name].to(of) for name, of in adapter.text_encoder.items()}
    return replace(adapter, unet=unet, text_encoder=text)


def write_both(
    trained: TrainedModel,
    variant: Variant,
    weights: Path,
    out: Path,
    decoder: TrainedDecoder | None = None,
) -> None:
    """Write both files into ``out``; ``weights`` has the stored ones."""
    out.mkdir(parents=True, exist_ok=True)
    base = base_of(trained, variant, weights / BASE_NAME, decoder)
    tiny_base.save(out / BASE_NAME, base)
    stored = checkpoint.load(weights / ADAPTER_NAME)
    config = stored.config
    told = f"text encoder, keys, values and conv_in of the base {mark(out / BASE_NAME)}"
    made_by = with_history(
        config.provenance, f"{told}; the rest of the adapter {mark(weights / ADAPTER_NAME)}"
    )
    adapter = replace(stored, config=replace(config, provenance=made_by))
    checkpoint.save(out / ADAPTER_NAME, adapter_on(base, adapter), int8=True)
