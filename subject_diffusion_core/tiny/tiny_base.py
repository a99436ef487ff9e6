"""The tiny base model's file: UNet, VAE, text encoder and vision encoder in a few megabytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import CheckpointError
from ..files.header import read_header
from ..files.int8_weights import dequantize, quantize
from ..files.safetensors_file import read_tensors, require_finite, write_safetensors

METADATA_KEY = "subject_diffusion_tiny_base"
FORMAT_VERSION = 1
PARTS = ("unet", "vae", "text_encoder", "vision")
TOKEN_TABLE = "text_model.embeddings.token_embedding.weight"
TOKEN_IDS = "text_encoder.token_ids"
_CONFIG_KEYS = ("unet", "vae", "text_encoder", "vision", "prediction_type", "scheduler")

StateDict = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class TinyBase:
    """The tiny base model in memory, all weights in float32.

    Attributes:
        config: constructor arguments of the parts (`unet`, `vae`, `text_encoder`, `vision`),
            `prediction_type`, `scheduler`, `scaling_factor`, `image_size`, `provenance`.
        unet, vae: state dicts under diffusers' names.
        text_encoder: state dict under the names `text_model.*`, with the whole token table
            (vocab_size, width).
        vision: state dict of `TinyVision`.
        token_ids: (K,) long, the ids whose rows the file keeps; every other id shares one row.
    """

    config: Mapping[str, Any]
    unet: StateDict = field(default_factory=dict)
    vae: StateDict = field(default_factory=dict)
    text_encoder: StateDict = field(default_factory=dict)
    vision: StateDict = field(default_factory=dict)
    token_ids: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))


def load(path: str | os.PathLike[str]) -> TinyBase:
    """Read the tiny base's file: weights are dequantised, the token table is expanded.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind or version.
    """
    header = read_header(path)
    config = _parse_config(header.require_metadata(METADATA_KEY), str(path))
    tensors = read_tensors(header)
    token_ids = tensors.pop(TOKEN_IDS, None)
    parts: dict[str, StateDict] = {part: {} for part in PARTS}
    for name, tensor in dequantize(tensors, str(path)).items():
        part, _, key = name.partition(".")
        if part not in parts:
            raise CheckpointError(
                f"{path}: expected tensors of {', '.join(PARTS)}, got '{name}'. Export it again."
            )
        parts[part][key] = tensor.float()
    if token_ids is None or TOKEN_TABLE not in parts["text_encoder"]:
        raise CheckpointError(
            f"{path}: expected a token table and its ids, got a file without. Export it again."
        )
    vocab_size = config["text_encoder"]["vocab_size"]
    table = parts["text_encoder"][TOKEN_TABLE]
    parts["text_encoder"][TOKEN_TABLE] = expand_token_table(table, token_ids, vocab_size)
    return TinyBase(config=config, token_ids=token_ids, **parts)


def save(path: str | os.PathLike[str], tiny_base: TinyBase, int8: bool = True) -> None:
    """Write the tiny base's file atomically.

    Args:
        int8: store weights with two or more dimensions as int8 with a scale per output channel.
    """
    tensors: StateDict = {}
    for part in PARTS:
        tensors |= {f"{part}.{name}": tensor for name, tensor in getattr(tiny_base, part).items()}
    table = tensors[f"text_encoder.{TOKEN_TABLE}"]
    tensors[f"text_encoder.{TOKEN_TABLE}"] = compact_token_table(table, tiny_base.token_ids)
    require_finite(str(path), tensors)
    stored = quantize(tensors) if int8 else tensors
    config = {**tiny_base.config, "format_version": FORMAT_VERSION}
    write_safetensors(
        path, {**stored, TOKEN_IDS: tiny_base.token_ids}, {METADATA_KEY: json.dumps(config)}
    )


def compact_token_table(table: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
    """(vocab_size, D) -> (K + 1, D): the rows of `token_ids`, then one row for all other ids.

    That last row is the table's row of the first id that is not kept (training lets all of them
    share one row); if every id is kept, it is the mean of all rows.

    >>> compact_token_table(torch.tensor([[9.0], [9.0], [1.0]]), torch.tensor([2])).flatten()
    tensor([1., 9.])
    """
    kept = torch.zeros(len(table), dtype=torch.bool)
    kept[token_ids] = True
    others = table[~kept]
    shared = others[:1] if len(others) else table.mean(dim=0, keepdim=True)
    return torch.cat((table[token_ids], shared))


def expand_token_table(
    rows: torch.Tensor, token_ids: torch.Tensor, vocab_size: int
) -> torch.Tensor:
    """(K + 1, D) -> (vocab_size, D): undo `compact_token_table`; unknown ids get the last row.

    >>> expand_token_table(torch.tensor([[1.0], [9.0]]), torch.tensor([2]), 4).flatten()
    tensor([9., 9., 1., 9.])
    """
    table = rows[-1:].repeat(vocab_size, 1)
    table[token_ids] = rows[:-1]
    return table


def _parse_config(text: str, source: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
        version, missing = config["format_version"], [k for k in _CONFIG_KEYS if k not in config]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{source}: expected a JSON configuration with a format_version, got {text[:40]!r}. "
            "Download or export the tiny base again."
        ) from error
    if version != FORMAT_VERSION or missing:
        found = f"version {version!r}" + (f" without {', '.join(missing)}" if missing else "")
        raise CheckpointError(
            f"{source}: expected a configuration of version {FORMAT_VERSION}, got {found}. "
            "Update this node pack, or export the tiny base with a matching version."
        )
    return dict(config)
