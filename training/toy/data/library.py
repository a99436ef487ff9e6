"""Draws subjects and scenes of one side of the split, and composes them: sample by seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .compose import (
    PLAIN_CAPTION,
    PLAIN_SHARE,
    SUBJECT_COUNT_WEIGHTS,
    Composite,
    Cutout,
    compose,
    plain_background,
)
from .split import assert_split

MODEL_SHARE = 0.55


@dataclass(frozen=True, kw_only=True)
class Library:
    """Cut-outs and backgrounds of one side, ready to be composed.

    cutouts (n, 128, 128, 4) and backgrounds (m, 128, 128, 3) are memory maps with one record per
    row. `models` and `emoji` list per identity its label and cut-out rows; `scene_rows` are the
    usable backgrounds.
    """

    cutouts: np.ndarray
    records: list[dict[str, Any]]
    backgrounds: np.ndarray
    scenes: list[dict[str, Any]]
    models: list[tuple[str, list[int]]]
    emoji: list[tuple[str, list[int]]]
    scene_rows: list[int]

    def cutout(self, row: int) -> Cutout:
        """Cut-out `row`, read from disk."""
        record = self.records[row]
        return Cutout(
            rgba=np.asarray(self.cutouts[row]),
            label=record["label"],
            width=record["width"],
            height=record["height"],
        )


def load_library(work: Path, identity_split: str, scene_split: str) -> Library:
    """Opens what lies below `work`, keeping one side of the identities and of the scenes."""
    records = json.loads((work / "cutouts.json").read_text())
    scenes = json.loads((work / "backgrounds.json").read_text())
    rows_of: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        if record["split"] == identity_split:
            rows_of.setdefault(record["identity"], []).append(row)
    assert_split(rows_of, identity_split)
    groups: dict[bool, list[tuple[str, list[int]]]] = {True: [], False: []}
    for identity, rows in rows_of.items():
        groups[identity.startswith("model:")].append((records[rows[0]]["label"], rows))
    return Library(
        cutouts=np.load(work / "cutouts.npy", mmap_mode="r"),
        records=records,
        backgrounds=np.load(work / "backgrounds.npy", mmap_mode="r"),
        scenes=scenes,
        models=groups[True],
        emoji=groups[False],
        scene_rows=[row for row, scene in enumerate(scenes) if scene["split"] == scene_split],
    )


def draw_rows(library: Library, rng: np.random.Generator, count: int | None = None) -> list[int]:
    """Cut-out rows of 1 to 4 subjects with different labels.

    Models, which have many views, are drawn a little more often than emoji; within each kind all
    identities are equally likely.
    """
    if count is None:
        count = 1 + int(rng.choice(len(SUBJECT_COUNT_WEIGHTS), p=SUBJECT_COUNT_WEIGHTS))
    rows: list[int] = []
    labels: set[str] = set()
    while len(rows) < count:
        pool = library.models if rng.random() < MODEL_SHARE else library.emoji
        label, views = pool[rng.integers(len(pool))]
        if label not in labels:
            labels.add(label)
            rows.append(views[rng.integers(len(views))])
    return rows


def make_sample(library: Library, seed: int) -> tuple[Composite, dict[str, Any]]:
    """Composite number `seed` with the metadata stored beside it (same seed, same sample)."""
    rng = np.random.default_rng(seed)
    rows = draw_rows(library, rng)
    if rng.random() < PLAIN_SHARE:
        background, scene, caption = plain_background(rng), "plain", PLAIN_CAPTION
    else:
        row = library.scene_rows[rng.integers(len(library.scene_rows))]
        background = np.asarray(library.backgrounds[row])
        if rng.random() < 0.5:
            background = background[:, ::-1]
        scene, caption = library.scenes[row]["scene"], library.scenes[row]["caption"]
    cutouts = [library.cutout(row) for row in rows]
    # never mirrored: the reference then tells which way its subject faces
    composite = compose(cutouts, background, caption, rng, flipped=[False] * len(rows))
    entities = [
        {
            "label": library.records[row]["label"],
            "box": [round(float(v), 5) for v in composite.boxes_xyxy[index]],
            "mask": f"mask{index}.png",
            "identity": library.records[row]["identity"],
            "cutout": row,
            "flipped": bool(composite.flipped[index]),
        }
        for index, row in enumerate(rows)
    ]
    return composite, {"caption": composite.caption, "scene": scene, "entities": entities}
