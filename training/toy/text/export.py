"""A trained base as the small model's two files.

An adapter's file holds a text encoder, keys and values and `conv_in` of its own, which take the
place of the base's. Beside a base trained on, they are that base's: only the gated layers, the
grounding net, the projector and the mask's kernel are still the stored adapter's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.adapter import Adapter
from subject_diffusion_core.files.measured_guidance import SCORES_KEY
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_base import TOKEN_TABLE, TinyBase

from ...loop.trained import TrainedModel
from ..export import full_token_table
from .decoder import TrainedDecoder


def base_of(
    trained: TrainedModel, told: str, source: Path, decoder: TrainedDecoder | None = None
) -> TinyBase:
    """The base's file ``source`` with the trained UNet, text encoder and words, and with another
    decoder, if any; its provenance says so, the training by the sentence ``told``."""
    base = trained.tiny_base(source)
    assert trained.base.vocabulary is not None
    table = full_token_table(base.text_encoder[TOKEN_TABLE], trained.base.vocabulary)
    before = tiny_base.load(source).config["provenance"]
    made_by = with_history(before | {"text_to_image": base.config["provenance"]}, told)
    vae = base.vae
    if decoder is not None:
        made_by, vae = with_history(made_by, decoder.history()), decoder.weights
    text = {**base.text_encoder, TOKEN_TABLE: table}
    return replace(base, config={**base.config, "provenance": made_by}, text_encoder=text, vae=vae)


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
    told: str,
    decoder: TrainedDecoder | None,
    before: tuple[Path, Path],
    after: tuple[Path, Path],
) -> None:
    """Write base and adapter ``after`` a training, which the sentence ``told`` describes; the files
    ``before`` it are what is kept of them."""
    for path in after:
        path.parent.mkdir(parents=True, exist_ok=True)
    base = base_of(trained, told, before[0], decoder)
    tiny_base.save(after[0], base)
    stored = checkpoint.load(before[1])
    config = stored.config
    shared = f"text encoder, keys, values and conv_in of the base {mark(after[0])}"
    made_by = with_history(
        config.provenance, f"{shared}; the rest of the adapter {mark(before[1])}"
    )
    adapter = replace(stored, config=replace(config, provenance=made_by))
    checkpoint.save(after[1], adapter_on(base, adapter), int8=True)
