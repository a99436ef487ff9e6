# Shapes: n tuned vectors, d their width, T sets for the steps of a schedule.
"""Files of tuned subject embeddings; a run that was stopped keeps there what it goes on from.

Tensors: `vectors` (n, d), `step_vectors` (T, n, d) where there are sets for single steps, and
`unfinished.*` of a run that was stopped. Everything else stands in the metadata, as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..errors import CheckpointError, reason_of
from ..hifi_tuner.tuned_embedding import TunedEmbedding
from ..hifi_tuner.tuning import TuningState
from ..schema import (
    LONGEST_LABEL,
    MODULE_WIDTH,
    NUM_STEP_SETS,
    NUM_VECTORS,
    TIMESTEP,
    NumberRange,
    printed,
    require_text,
)
from .header import read_header
from .safetensors_file import read_tensors, require_finite, write_safetensors

METADATA_KEY = "subject_diffusion_tuned_embedding"
FORMAT_VERSION = 1
_ADVICE = "Tune the embedding again."
_UNFINISHED = "unfinished."
_STATE_TENSORS = ("vectors", "mean", "mean_square")

Description = Mapping[str, Any]


def save(path: str | os.PathLike[str], embedding: TunedEmbedding, exclusive: bool = False) -> None:
    """Check and write a file atomically.

    Args:
        exclusive: raise FileExistsError where there is a file of this name already.
    """
    _write(path, _describe(embedding), _tensors(embedding), exclusive)


def load(path: str | os.PathLike[str]) -> TunedEmbedding:
    """Read a file and check it completely; of an unfinished one, what it holds so far.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind or version, holds NaN, or its
            tensors are not those that it describes.
    """
    description, tensors = _read(path)
    try:
        return TunedEmbedding(
            vectors=tensors["vectors"].float(),
            step_vectors=tensors["step_vectors"].float() if "step_vectors" in tensors else None,
            step_timesteps=tuple(float(t) for t in description["step_timesteps"]),
            label=description["label"],
            provenance=dict(description["provenance"]),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise _not_as_described(path, error) from error


def save_unfinished(
    path: str | os.PathLike[str], embedding: TunedEmbedding, state: TuningState, run: str
) -> None:
    """Write what a run goes on from, atomically.

    Args:
        embedding: what it has so far, for use as it is.
        run: names everything that the run depends on.
    """
    description = _describe(embedding)
    description["unfinished"] = {
        "run": run,
        "update": state.update,
        "loss_scale": state.loss_scale,
    }
    tensors = {f"{_UNFINISHED}{name}": getattr(state, name) for name in _STATE_TENSORS}
    if state.whole is not None:
        tensors[f"{_UNFINISHED}whole"] = state.whole
    if state.sets:
        tensors[f"{_UNFINISHED}sets"] = torch.stack(state.sets)
    _write(path, description, {**_tensors(embedding), **tensors})


def load_unfinished(path: str | os.PathLike[str], run: str) -> TuningState:
    """What the run `run` goes on from; CheckpointError where the file is another's."""
    description, tensors = _read(path)
    unfinished = description.get("unfinished")
    try:
        if unfinished is None or unfinished["run"] != run:
            raise ValueError("of another run")
        own = {name: tensors[f"{_UNFINISHED}{name}"] for name in _STATE_TENSORS}
        if any(tensor.shape != tensors["vectors"].shape for tensor in own.values()):
            raise ValueError("tensors of another shape")
        sets = tensors.get(f"{_UNFINISHED}sets")
        return TuningState(
            update=int(unfinished["update"]),
            loss_scale=float(unfinished["loss_scale"]),
            whole=tensors.get(f"{_UNFINISHED}whole"),
            sets=[] if sets is None else list(sets),
            **own,
        )
    except (LookupError, TypeError, ValueError) as error:
        raise _not_as_described(path, error) from error


def _describe(embedding: TunedEmbedding) -> dict[str, Any]:
    num_vectors, width = embedding.vectors.shape
    return {
        "format_version": FORMAT_VERSION,
        "label": embedding.label,
        "num_vectors": num_vectors,
        "width": width,
        "step_timesteps": list(embedding.step_timesteps),
        "provenance": dict(embedding.provenance),
    }


def _tensors(embedding: TunedEmbedding) -> dict[str, torch.Tensor]:
    tensors = {"vectors": embedding.vectors}
    if embedding.step_vectors is not None:
        tensors["step_vectors"] = embedding.step_vectors
    return tensors


def _write(
    path: str | os.PathLike[str],
    description: Description,
    tensors: Mapping[str, torch.Tensor],
    exclusive: bool = False,
) -> None:
    require_finite(str(path), tensors, "Lower the learning rate, and tune the embedding again.")
    write_safetensors(path, tensors, {METADATA_KEY: json.dumps(description)}, exclusive)


def _read(path: str | os.PathLike[str]) -> tuple[Description, dict[str, torch.Tensor]]:
    header = read_header(path)
    text = header.require_metadata(METADATA_KEY)
    try:
        description = json.loads(text)
        version = description["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        version, description = None, {}
    if isinstance(version, bool) or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: expected a tuned embedding of format version {FORMAT_VERSION}, got version "
            f"{printed(version)}. Update this node pack, or tune the embedding again."
        )
    try:
        _require_limits(description, {name: info.shape for name, info in header.tensors.items()})
    except (LookupError, TypeError, ValueError) as error:
        raise _not_as_described(path, error) from error
    return description, read_tensors(header, _ADVICE)


def _require_limits(description: Description, shapes: Mapping[str, Sequence[int]]) -> None:
    """What the schema says of a tuned embedding, before its tensors are read."""
    label, timesteps = description["label"], description["step_timesteps"]
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"its label is {printed(label)}")
    require_text("label", label, LONGEST_LABEL)
    if not isinstance(timesteps, list) or not all(map(TIMESTEP.holds, timesteps)):
        raise ValueError(f"its step_timesteps are {printed(timesteps)}")
    if not isinstance(description["provenance"], dict):
        raise ValueError(f"its provenance is {printed(description['provenance'])}")
    for name, shape in shapes.items():
        limits = (NUM_STEP_SETS, NUM_VECTORS, MODULE_WIDTH)[-len(shape) :]
        if not 2 <= len(shape) <= 3 or not all(map(NumberRange.holds, limits, shape)):
            raise ValueError(f"{printed(name)} has the shape {printed(list(shape))}")


def _not_as_described(path: str | os.PathLike[str], error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: expected the vectors of a tuned embedding as it describes them, got a file that "
        f"lacks some of them or has others ({reason_of(error)}). {_ADVICE}"
    )
