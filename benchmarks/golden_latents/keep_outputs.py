"""A custom node for the recording server: writes what another node puts out to a file, unrounded.

Copied into the server's custom_nodes, so it imports nothing of this repository.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import folder_paths
import torch
from safetensors.torch import save_file


class AnyType(str):
    """A type that every link fits."""

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        return False


def tensors_in(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors, numbers and texts of an output, each under a name of its own.

    Objects of a pack's own classes are left out: their insides may change without any effect.
    """
    if isinstance(value, torch.Tensor):
        yield name, value.detach().cpu().clone().contiguous()
    elif isinstance(value, str):
        yield name, torch.tensor(list(value.encode("utf-8")), dtype=torch.uint8)
    elif isinstance(value, int | float):
        yield name, torch.tensor(float(value), dtype=torch.float64)
    elif isinstance(value, dict):
        for key in ("samples", "noise_mask", "pooled_output"):
            yield from tensors_in(f"{name}.{key}", value.get(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from tensors_in(f"{name}.{number}", item)


class KeepOutput:
    """Writes one output of a node to output/kept/<name>.safetensors."""

    INPUT_IS_LIST = True
    OUTPUT_NODE = True
    RETURN_TYPES = ()
    FUNCTION = "keep"
    CATEGORY = "_for_testing"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"value": (AnyType("*"), {}), "name": ("STRING", {})}}

    def keep(self, value: list[Any], name: list[str]) -> tuple[()]:
        path = Path(folder_paths.get_output_directory()) / "kept" / f"{name[0]}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(tensors_in("value", value)), path)
        return ()


NODE_CLASS_MAPPINGS = {"KeepOutput": KeepOutput}
