"""Writes measured scores into the metadata of the weights they belong to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from subject_diffusion_core import checkpoint

from ..toy.files import ADAPTER_NAME
from .scoring import ORDINALS

RECORDED = ("top1", "top5", "cosine", "box_iou", *(f"top1_{name}" for name in ORDINALS))


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """The figures of a TinyBench result worth keeping beside the weights: [value, low, high]."""
    rows = {
        name: {
            key: [round(score[part], 4) for part in ("value", "low", "high")]
            for key in RECORDED
            if (score := row["scores"].get(key))
        }
        for name, row in result["rows"].items()
    }
    return {"settings": result["settings"], "gallery": result["gallery"], "rows": rows}


def record_scores(weights: Path, result_json: Path) -> None:
    """Put the summary of ``result_json`` into the adapter file's provenance, under "tinybench"."""
    path = weights / ADAPTER_NAME
    provenance = checkpoint.load(path).config.provenance
    result = json.loads(result_json.read_text(encoding="utf-8"))
    checkpoint.save_provenance(path, {**provenance, "tinybench": summary(result)})
