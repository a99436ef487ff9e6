"""Scores in the weights' metadata."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tiny_parts import write_weights

from subject_diffusion_core import checkpoint
from training.evaluation.report import record_scores
from training.toy.files import ADAPTER_NAME


def test_scores_join_the_provenance_and_weights_stay(tmp_path: Path) -> None:
    write_weights(tmp_path)
    checkpoint.save_provenance(tmp_path / ADAPTER_NAME, {"seed": 3})
    before = checkpoint.load(tmp_path / ADAPTER_NAME)
    score = {"value": 0.25, "low": 0.2, "high": 0.3}
    result = {
        "settings": {"steps": 20},
        "gallery": {"num_entries": 5},
        "rows": {"one_subject": {"scores": {"top1": score, "top1_first": None, "other": score}}},
    }
    (tmp_path / "tinybench.json").write_text(json.dumps(result))
    record_scores(tmp_path, tmp_path / "tinybench.json")
    after = checkpoint.load(tmp_path / ADAPTER_NAME)
    assert after.config.provenance["seed"] == 3
    assert after.config.provenance["tinybench"]["rows"] == {
        "one_subject": {"top1": [0.25, 0.2, 0.3]}
    }
    assert before.unet.keys() == after.unet.keys()
    assert all(torch.equal(before.unet[name], after.unet[name]) for name in before.unet)
