"""A library of typical pictures alone: of a scene the views that tell it best, of a label one
cut-out. A base draws sooner what it has often seen.

# Shapes: M pictures, F feature width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ...runs import write_json
from ..data.library import Library
from ..data.pictures import reference_image
from .encoder import training_encoder

CHUNK = 64


def typical_library(library: Library, work: Path, views: int) -> Library:
    """``library`` with ``views`` backgrounds of every scene, and for every identity the one most
    telling cut-out of its label, so that labels stay as frequent as they are."""
    best = most_telling(library, work)
    scenes = [row for rows in best["scenes"].values() for row in rows[:views]]
    label_rows = {label: rows[0] for label, rows in best["labels"].items()}
    models, emoji = (
        [(label, [label_rows[label]]) for label, _ in identities]
        for identities in (library.models, library.emoji)
    )
    return replace(library, scene_rows=sorted(scenes), models=models, emoji=emoji)


def most_telling(library: Library, work: Path) -> dict[str, dict[str, list[int]]]:
    """Rows of every scene's backgrounds and of every label's cut-outs, the most telling first; kept
    in ``work``, of labels the first alone."""
    path = work / "evaluation" / "typical.json"
    if not path.exists():
        encoder = training_encoder()
        rows = [row for _, views in (*library.models, *library.emoji) for row in views]
        shown = [
            encoder.encode(
                np.stack([reference_image(np.asarray(library.cutouts[row]), 128) for row in some])
            )
            for some in tqdm([rows[at : at + CHUNK] for at in range(0, len(rows), CHUNK)])
        ]
        labels = telling_order(
            np.concatenate(shown), [library.records[row]["label"] for row in rows], rows
        )
        scenes = telling_order(
            encoder.encode(np.asarray(library.backgrounds[library.scene_rows])),
            [library.scenes[row]["scene"] for row in library.scene_rows],
            library.scene_rows,
        )
        first = {label: order[:1] for label, order in labels.items()}
        write_json(path, {"scenes": scenes, "labels": first})
    kept: dict[str, dict[str, list[int]]] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def telling_order(
    features: np.ndarray, names: Sequence[str], rows: Sequence[int]
) -> dict[str, list[int]]:
    """The rows of every name, those first whose features (M, F) lie furthest in the direction from
    the mean of all names to the name's own."""
    own, given = np.array(names), np.array(rows)
    means = {name: features[own == name].mean(0) for name in dict.fromkeys(names)}
    middle = np.mean(list(means.values()), axis=0)
    return {
        name: given[own == name][
            np.argsort(-(features[own == name] @ (mean - middle)), kind="stable")
        ].tolist()
        for name, mean in means.items()
    }
