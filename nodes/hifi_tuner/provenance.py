"""What an embedding is tuned of: names for a model and for a whole run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ...subject_diffusion_core.files.subject_file import hash_weights
from ..host.comfy_types import Model
from ..host.weight_diffs import unpatched_weight

# The layers that read the text tell models apart.
TEXT_KEYS = ".attn2.to_k.weight"
_READING = (TEXT_KEYS, ".attn2.to_v.weight")


def model_name(model: Model) -> str:
    """ComfyUI's name of the kind of model, such as "SD15"."""
    config = getattr(model.model, "model_config", model.model)
    return type(config).__name__


def hash_model(model: Model) -> str:
    """Tells models apart, whether or not their LoRAs are on the weights at the moment."""
    tensors = {}
    for name in model.model_state_dict():
        if name.endswith(_READING):
            found = unpatched_weight(model, name)
            assert found is not None
            tensors[name] = found[0]
    for name, entries in model.patches.items():
        for index, (strength, patch, strength_model, _, _) in enumerate(entries):
            strengths = torch.tensor([strength, strength_model])
            for part, tensor in enumerate((strengths, *_tensors_in(patch))):
                tensors[f"{name} {index} {part}"] = tensor
    return hash_weights(tensors)


def settings_of(model: Model) -> Any:
    """What other nodes set on a MODEL besides its weights, as JSON takes it: its schedule and kind
    of prediction, objects in the place of its own, patches and wrappers by their names."""
    sampling = model.get_model_object("model_sampling")
    objects = {name: _kinds(value) for name, value in model.object_patches.items()}
    return [_kinds(sampling), objects, _named(model.model_options), _named(model.wrappers)]


def _kinds(value: object) -> list[str]:
    return [kind.__name__ for kind in type(value).__mro__]


def _named(value: object) -> Any:
    if isinstance(value, dict):
        return sorted((str(key), _named(held)) for key, held in value.items())
    if isinstance(value, list | tuple):
        return [_named(held) for held in value]
    if isinstance(value, int | float | str) or value is None:
        return value
    return getattr(value, "__qualname__", type(value).__qualname__)


def hash_run(tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> str:
    """Names a run by everything that it depends on."""
    words = torch.frombuffer(
        bytearray(json.dumps(settings, sort_keys=True).encode()), dtype=torch.uint8
    )
    return hash_weights({**tensors, "settings": words.float()})


def _tensors_in(patch: object) -> Iterator[torch.Tensor]:
    """All tensors of a patch, in whatever form ComfyUI keeps them."""
    if isinstance(patch, torch.Tensor):
        yield patch
    elif isinstance(patch, list | tuple):
        for part in patch:
            yield from _tensors_in(part)
    elif hasattr(patch, "weights"):
        yield from _tensors_in(patch.weights)
