"""A trained base as the small model's two files, for `python -m training tiny --go-on-from`.

An adapter's file holds a text encoder, keys and values and `conv_in` of its own, which take the
place of the base's. Beside a base trained on, they are that base's: only the gated layers, the
grounding net, the projector and the mask's kernel are still the stored adapter's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from subject_diffusion_core import checkpoint
from subject_diffusion_core.files.adapter import Adapter
from subject_diffusion_core.tiny import tiny_base
from subject_diffusion_core.tiny.tiny_base import TOKEN_TABLE, TinyBase
from training.loop.trained import TrainedModel
from training.toy.export import full_token_table
from training.toy.files import ADAPTER_NAME, BASE_NAME


def base_of(trained: TrainedModel, source: Path) -> TinyBase:
    """The base's file ``source`` with the trained UNet, text encoder and words."""
    base = trained.tiny_base(source)
    assert trained.base.vocabulary is not None
    table = full_token_table(base.text_encoder[TOKEN_TABLE], trained.base.vocabulary)
    return replace(base, text_encoder={**base.text_encoder, TOKEN_TABLE: table})


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


def write_both(trained: TrainedModel, weights: Path, out: Path) -> None:
    """Write both files into ``out``; ``weights`` has the stored ones."""
    out.mkdir(parents=True, exist_ok=True)
    base = base_of(trained, weights / BASE_NAME)
    tiny_base.save(out / BASE_NAME, base)
    stored = checkpoint.load(weights / ADAPTER_NAME)
    checkpoint.save(out / ADAPTER_NAME, adapter_on(base, stored), int8=True)
