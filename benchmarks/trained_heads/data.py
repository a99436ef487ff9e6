"""Pictures of the small model's world for training on its stored base, with their references."""

from __future__ import annotations

import json
from pathlib import Path

from subject_diffusion_core.tiny.tiny_vision import TinyVision, VisionGeometry
from training.bases.encoders import weights_mark
from training.bases.loading import read_tiny_base
from training.bases.vision import load_vision
from training.recipes import recipe_named
from training.toy.data.build import build
from training.toy.references import encode_references, write_pool
from training.toy.stages import TRAIN_SHARDS
from training.toy.stored_start import claim_work, read_stored_start


def make_data(work: Path, weights: Path, count: int, packages: Path | None = None) -> None:
    """`count` training pictures below `work`, what the base's own encoder says of all references,
    and the held-out subjects; what is there already stays."""
    start = read_stored_start(weights)
    claim_work(work, start)
    build(work, packages, train_composites=count)
    records = json.loads((work / "cutouts.json").read_text(encoding="utf-8"))
    rows = [row for row, record in enumerate(records) if record["split"] == "train"]
    encoder = TinyVision(VisionGeometry.from_config(start.base.config["vision"]))
    encoder.load_state_dict(start.base.vision)
    encoder.eval().requires_grad_(False)
    encoder.patch_mean.zero_()  # the pool is standardised when it is written
    encoder.patch_std.fill_(1.0)
    encode_references(work, encoder, rows, extra_variants=0)
    base = read_tiny_base(start.base_path)
    mark = weights_mark(load_vision(None, recipe_named("tiny_ip_adapter"), base))
    write_pool(work, work / TRAIN_SHARDS, mark)
