"""Adapter files that must be refused with one clear sentence, and graphs that use them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from graphs import Graph, changed, node
from host_models import Host, make_adapter_for
from safetensors import safe_open
from safetensors.torch import save_file

from subject_diffusion_core import checkpoint

BAD_ADAPTERS = {
    "other base": r"model: expected a sd2 base with input channels 4 .*, got 24\.",
    "truncated": r"expected an intact \.safetensors file, got a damaged one",
    "NaN": r"expected finite numbers, got NaN or infinity",
    "pickled": r"expected a \.safetensors file, got a pickled",
    "torch file": r"expected a \.safetensors file, got a pickled",
    "empty": r"expected a \.safetensors file, got something else \(0 bytes\)",
    "text": r"expected a \.safetensors file, got something else \(9 bytes\)",
    "LoRA": r"expected the metadata entry 'subject_diffusion', got none\.",
    "newer version": r"expected format version \d+, got 99\.",
    "no configuration": r"expected a JSON configuration with a format_version, got 'what'",
    "too little": r"expected the tensors of its configuration, got a file without 'mlp\.",
    "too much": r"expected the tensors of its configuration, got a file with .*'unet\.surplus'",
    "other shape": r"expected 'mlp\.fc1\.weight' of shape \(.*\), got \(.*\)\.",
}


def adapter_graph(name: str) -> Graph:
    """The good graph with an adapter file."""
    graph = mixed_graph(name)
    graph["encode"]["inputs"]["adapter"] = ["adapter", 0]
    return graph


def mixed_graph(name: str) -> Graph:
    """The file's adapter in Apply, the loader's in Encode."""
    graph = changed("apply", adapter=["adapter", 0])
    graph["adapter"] = node("SubjectDiffusionAdapterLoader", adapter_name=name)
    return graph


def write_adapter(kind: str, path: Path, host: Host) -> None:
    """A file of a kind of BAD_ADAPTERS; of any other kind, a good one."""
    if kind in NO_ADAPTERS:
        NO_ADAPTERS[kind](path)
        return
    base = host.make_base("sd2" if kind == "other base" else "tiny")
    adapter = make_adapter_for(base, base_family="sd2" if kind == "other base" else "tiny")
    checkpoint.save(path, adapter)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    if kind == "NaN":
        content = bytearray(path.read_bytes())
        content[-4:] = np.float32("nan").tobytes()
        path.write_bytes(bytes(content))
    if kind in CHANGES:
        rewrite(path, CHANGES[kind])


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    """Change tensors and metadata of a file."""
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)


def newer_version(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    configuration = json.loads(metadata[checkpoint.METADATA_KEY]) | {"format_version": 99}
    metadata[checkpoint.METADATA_KEY] = json.dumps(configuration)


def no_configuration(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    metadata[checkpoint.METADATA_KEY] = "what"


def too_little(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    del tensors["mlp.fc1.weight"]


def too_much(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    tensors["unet.surplus"] = torch.zeros(1)


def other_shape(tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    tensors["mlp.fc1.weight"] = torch.zeros(2, 2)


CHANGES = {
    "newer version": newer_version,
    "no configuration": no_configuration,
    "too little": too_little,
    "too much": too_much,
    "other shape": other_shape,
}
NO_ADAPTERS: dict[str, Callable[[Path], Any]] = {
    "pickled": lambda path: path.write_bytes(pickle.dumps({"a": 1})),
    "torch file": lambda path: torch.save({"a": torch.zeros(1)}, path),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("not a file"[:9]),
    "LoRA": lambda path: save_file({"lora_te.alpha": torch.ones(1)}, path),
}
