"""A small work folder for TinyBench: real identities of the split, noise as their pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from training.toy.data.raycast import view_direction
from training.toy.data.split import load_identities

SIDE = 128
VIEWS = tuple((30.0 * k, 12.0) for k in range(0, 12, 3))


def records_of(identity: str, record: dict[str, str]) -> list[dict]:
    """Cut-out records of one identity: four views of a model, one picture of an emoji."""
    is_model = identity.startswith("model:")
    views = [view_direction(*view).tolist() for view in VIEWS] if is_model else [None]
    kept = {key: record[key] for key in ("label", "category", "source", "split")}
    size = {"width": 64, "height": SIDE}
    return [{"identity": identity, "view": view, **kept, **size} for view in views]


def write_work(folder: Path) -> Path:
    """Eight held-out models, 24 held-out emoji designs, four train models; noise as pictures."""
    identities = load_identities()
    chosen: list[str] = []
    for prefix, split, count in (("model:", "heldout", 8), ("emoji:", "heldout", 24)):
        names = [n for n, r in identities.items() if n.startswith(prefix) and r["split"] == split]
        chosen += sorted(names)[:count]
    chosen += sorted(n for n, r in identities.items() if n.startswith("model:Scopia"))[:4]
    rows = [row for name in dict.fromkeys(chosen) for row in records_of(name, identities[name])]
    rng = np.random.default_rng(0)
    cutouts = np.zeros((len(rows), SIDE, SIDE, 4), np.uint8)
    cutouts[:, :, 32:96, :3] = rng.integers(256, size=(len(rows), 1, 1, 3))
    cutouts[:, :, 32:96, 3] = 255
    scenes = [
        {"scene": "park", "caption": "on a green lawn in a park", "split": "heldout"},
        {"scene": "forest", "caption": "in a forest", "split": "train"},
    ]
    np.save(folder / "cutouts.npy", cutouts)
    np.save(folder / "backgrounds.npy", rng.integers(256, size=(2, SIDE, SIDE, 3), dtype=np.uint8))
    (folder / "cutouts.json").write_text(json.dumps(rows))
    (folder / "backgrounds.json").write_text(json.dumps(scenes))
    return folder
