"""A base trained as a plain text-to-image model in the common loop, and its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from own_pictures import write_pictures
from tiny_parts import write_weights

from subject_diffusion_core.gated_attention import GatedSelfAttention
from subject_diffusion_core.tiny import tiny_base
from training.__main__ import main
from training.toy.files import BASE_NAME


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_the_base_alone_is_trained_and_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = write_pictures(tmp_path / "pictures", count=4)
    shared = ["--recipe", "text_to_image_tiny"]
    own = ["--jsonl", str(listed), "--out", str(tmp_path / "s"), "--features", "none"]
    main(["precompute", *shared, *own])
    weights = write_weights(tmp_path)
    attended: list[int] = []
    attend = GatedSelfAttention._attend
    monkeypatch.setattr(GatedSelfAttention, "_attend", lambda *a: attended.append(1) or attend(*a))
    base, run = weights / BASE_NAME, tmp_path / "run"
    small = ["steps=2", "global_batch_size=2", "micro_batch_size=2", "precision=float32"]
    small += ["grounding_hidden_dim=32", "projector_hidden_dim=32", "ema_decay=0"]
    settings = [word for setting in small for word in ("--set", setting)]
    data = ["--data", str(tmp_path / "s" / "train"), "--out", str(run), "--base", str(base)]
    main(["train", *shared, *data, *settings])
    assert not attended, "the adapters take no part"
    out = tmp_path / "trained.safetensors"
    main(["export", "--run", str(run), "--out", str(out)])
    before, after = tiny_base.load(base), tiny_base.load(out)
    assert before.unet.keys() == after.unet.keys()
    moved = [name for name in before.unet if not torch.equal(before.unet[name], after.unet[name])]
    assert any("attn1" in name for name in moved) and any("resnets" in name for name in moved)
    assert torch.equal(before.token_ids, after.token_ids)
    assert after.config["provenance"]["recipe"]["name"] == "text_to_image_tiny"
