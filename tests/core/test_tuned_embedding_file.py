"""Files of tuned embeddings: what is written is read, and what is not one is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.files import tuned_embedding_file as files
from subject_diffusion_core.hifi_tuner import TunedEmbedding, TuningState


def make_embedding() -> TunedEmbedding:
    return TunedEmbedding(
        vectors=torch.randn(5, 8),
        step_vectors=torch.randn(3, 5, 8),
        step_timesteps=(901.0, 401.0, 1.0),
        label="red bag",
        provenance={"caption": "a photo of a red bag", "seed": 3},
    )


def make_state(embedding: TunedEmbedding, num_sets: int) -> TuningState:
    return TuningState(
        update=17,
        vectors=embedding.vectors * 2,
        mean=embedding.vectors * 3,
        mean_square=embedding.vectors.square(),
        whole=embedding.vectors if num_sets else None,
        sets=[embedding.vectors + i for i in range(num_sets)],
        loss_scale=512.0,
    )


def test_round_trip(tmp_path: Path) -> None:
    path, embedding = tmp_path / "bag.safetensors", make_embedding()
    files.save(path, embedding)
    again = files.load(path)
    assert torch.equal(again.vectors, embedding.vectors)
    assert torch.equal(again.step_vectors, embedding.step_vectors)
    assert (again.step_timesteps, again.label) == (embedding.step_timesteps, "red bag")
    assert again.provenance == embedding.provenance
    assert [file.name for file in tmp_path.iterdir()] == ["bag.safetensors"]


@pytest.mark.parametrize("num_sets", [0, 2])
def test_unfinished(tmp_path: Path, num_sets: int) -> None:
    path, embedding = tmp_path / "bag.safetensors", make_embedding()
    state = make_state(embedding, num_sets)
    files.save_unfinished(path, embedding, state, "a run")
    again = files.load_unfinished(path, "a run")
    assert (again.update, again.loss_scale, len(again.sets)) == (17, 512.0, num_sets)
    for name in ("vectors", "mean", "mean_square"):
        assert torch.equal(getattr(again, name), getattr(state, name))
    assert (again.whole is None) == (state.whole is None)
    assert all(map(torch.equal, again.sets, state.sets))
    assert torch.equal(files.load(path).vectors, embedding.vectors)
    with pytest.raises(CheckpointError, match="of another run"):
        files.load_unfinished(path, "another run")


def changed(tmp_path: Path, tensors: Any = None, **changes: Any) -> Path:
    """A good file with other tensors or another description."""
    path = tmp_path / "changed.safetensors"
    files.save(path, make_embedding())
    held = {**load_file(path), **(tensors or {})}
    description = {
        "format_version": 1,
        "label": "bag",
        "step_timesteps": [901.0, 401.0, 1.0],
        "provenance": {},
        **changes,
    }
    held = {name: tensor for name, tensor in held.items() if tensor is not None}
    save_file(held, path, metadata={files.METADATA_KEY: json.dumps(description)})
    return path


BAD = {
    "newer": ({"format_version": 2}, "expected a tuned embedding of format version 1, got vers"),
    "timesteps": ({"step_timesteps": [1.0, 2.0, 3.0]}, "lacks some of them or has others"),
    "fewer timesteps": ({"step_timesteps": [1.0]}, "lacks some of them or has others"),
    "words": ({"step_timesteps": ["a", "b", "c"]}, "lacks some of them or has others"),
    "endless timesteps": ({"step_timesteps": [1e400, 4.0, 1.0]}, "its step_timesteps are .*inf"),
    "no words": ({"label": [1]}, r"its label is \[1\]"),
    "many words": ({"label": "x" * 1001}, "expected at most 1000 characters, got 1001"),
    "a megabyte": ({"label": {"x" * 10**6: 1}}, "its label is .{200,260}$"),
    "half a character": ({"label": "a \ud800"}, "got half of a surrogate pair"),
    "provenance": ({"provenance": 3}, "its provenance is 3"),
    "true version": ({"format_version": True}, "got version True"),
    "no tensors": ({"tensors": {"more": torch.zeros(10**9, 0)}}, r"'more' has the shape \[10000"),
    "no vectors": ({"tensors": {"vectors": None}}, "lacks some of them or has others"),
    "other sets": ({"tensors": {"step_vectors": torch.zeros(3, 5, 9)}}, "lacks some of them"),
    "NaN": ({"tensors": {"vectors": torch.full((5, 8), float("nan"))}}, "got NaN or infinity"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files(tmp_path: Path, kind: str) -> None:
    changes, sentence = BAD[kind]
    with pytest.raises(CheckpointError, match=sentence):
        files.load(changed(tmp_path, **changes))


def test_files_of_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="got nothing there"):
        files.load(tmp_path / "none.safetensors")
    other = tmp_path / "other.safetensors"
    save_file({"emb_params": torch.zeros(2, 8)}, other)
    with pytest.raises(CheckpointError, match="expected the metadata entry"):
        files.load(other)
    good = tmp_path / "good.safetensors"
    files.save(good, make_embedding())
    good.write_bytes(good.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="expected an intact"):
        files.load(good)


def test_nan_is_not_written(tmp_path: Path) -> None:
    embedding = TunedEmbedding(
        vectors=torch.full((5, 8), float("nan")), step_vectors=None, label="bag"
    )
    with pytest.raises(CheckpointError, match="Lower the learning rate"):
        files.save(tmp_path / "bag.safetensors", embedding)
    assert list(tmp_path.iterdir()) == []
