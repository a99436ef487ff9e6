"""`dev.py tune` through the real server, with the weights of this repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from devtools.console import Progress
from devtools.server import ComfyServer
from devtools.tuning import DEFAULTS, TuningCommand, TuningJob
from subject_diffusion_core.files import tuned_embedding_file

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"steps": 12, "steps_per_set": 1, "num_sets": 3, "picture_size": 64}


class Impatient(Progress):
    """Ctrl-C as soon as something is reported."""

    def say(self, text: str) -> None:
        if text.startswith("  step"):
            raise KeyboardInterrupt


class Listener(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def job(out: Path, **options: Any) -> TuningJob:
    return TuningJob(
        images=(ROOT / "assets" / "subjects" / "crab.png",),
        masks=(),
        label="crab",
        out=out,
        checkpoint=None,
        options={**OPTIONS, **options},
    )


def test_the_defaults_are_the_nodes(comfy_nodes: Any) -> None:
    schema = comfy_nodes.NODE_CLASS_MAPPINGS["SubjectDiffusionTuneEmbedding"].GET_SCHEMA()
    defaults = {entry.id: getattr(entry, "default", None) for entry in schema.inputs}
    assert {name: value for name, value in defaults.items() if value is not None} == DEFAULTS


def test_tuned_interrupted_and_resumed(server: ComfyServer, tmp_path: Path) -> None:
    """The file and nothing else; a stopped run is kept beside it, and ends as it would have."""
    command = TuningCommand(server, Progress())
    whole = tuned_embedding_file.load(command.tune(job(tmp_path / "a" / "crab.safetensors")))
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["crab.safetensors"]
    assert whole.label == "crab" and whole.step_vectors is not None
    assert whole.provenance["updates"] == 15 and whole.provenance["mask_shares"] != [1.0]

    out = tmp_path / "b" / "crab.safetensors"
    longer = {"steps": 200}
    with pytest.raises(KeyboardInterrupt):
        TuningCommand(server, Impatient()).tune(job(out, **longer))
    (kept,) = out.parent.iterdir()
    done = tuned_embedding_file.load(kept).provenance["updates"]
    assert kept.name.startswith("unfinished_") and 0 < done < 203
    resumed = tuned_embedding_file.load(command.tune(job(out, **longer)))
    assert [file.name for file in out.parent.iterdir()] == ["crab.safetensors"]
    fresh = job(tmp_path / "c" / "crab.safetensors", **longer, resume=False)
    wanted = tuned_embedding_file.load(command.tune(fresh))
    assert torch.equal(resumed.vectors, wanted.vectors)
    assert resumed.step_vectors is not None and wanted.step_vectors is not None
    assert torch.equal(resumed.step_vectors, wanted.step_vectors)


def test_what_the_node_says_is_shown(server: ComfyServer, tmp_path: Path) -> None:
    """Its warnings, beside the command's own lines."""
    listener = Listener()
    nothing = {"steps": 0, "steps_per_set": 0}
    TuningCommand(server, listener).tune(job(tmp_path / "crab.safetensors", **nothing))
    warnings = [line for line in listener.lines if "so nothing is learned" in line]
    assert warnings == [
        "  steps, steps_per_set: both are 0, so nothing is learned. Raise one of them."
    ]
    TuningCommand(server, listener).tune(job(tmp_path / "crab.safetensors"))
    assert not [line for line in listener.lines if " steps, loss " in line]
