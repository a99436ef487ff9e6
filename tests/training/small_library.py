"""Two subjects in two scenes, for tests of the small base's text stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from training.runs import write_json
from training.toy.data.library import Library
from training.toy.data.pictures import SIDE
from training.toy.data.split import load_identities
from training.toy.text.words import KEPT


def small_library() -> Library:
    """Two subjects of noise in two scenes of noise."""
    rng = np.random.default_rng(0)
    cutouts = rng.integers(256, size=(2, SIDE, SIDE, 4), dtype=np.uint8)
    cutouts[..., 3] = 255
    about = (("armchair", "office"), ("lemon", "food-fruit"))
    return Library(
        cutouts=cutouts,
        records=[
            {"label": label, "identity": label, "category": category, "width": SIDE, "height": SIDE}
            for label, category in about
        ],
        backgrounds=rng.integers(256, size=(2, SIDE, SIDE, 3), dtype=np.uint8),
        scenes=[
            {"scene": "mall", "caption": "in a shopping hall"},
            {"scene": "forest", "caption": "in a forest"},
        ],
        models=[("armchair", [0])],
        emoji=[("lemon", [1])],
        scene_rows=[0, 1],
    )


def known_library() -> Library:
    """The same, its subjects by names that the split has on the training side."""
    library = small_library()
    known = [name for name, about in load_identities().items() if about["split"] == "train"]
    records = [
        {**record, "identity": name} for record, name in zip(library.records, known, strict=False)
    ]
    return replace(library, records=records)


def many_views() -> Library:
    """The small library with three views of the first subject and of each scene."""
    library = small_library()
    armchair = [library.records[0]] * 3
    return replace(
        library,
        cutouts=np.concatenate([library.cutouts, 255 - library.cutouts[:1], library.cutouts[1:]]),
        records=[*library.records, *armchair[:2]],
        backgrounds=np.concatenate([library.backgrounds, 255 - library.backgrounds] * 2)[:6],
        scenes=library.scenes * 3,
        models=[("armchair", [0, 2, 3])],
        scene_rows=[0, 1, 2, 3, 4, 5],
    )


def write_looks(work: Path) -> None:
    """How labels and scenes of :func:`many_views` look, and which of its pictures are typical, as
    the lessons find them in a work folder."""
    looks = np.random.default_rng(0).normal(size=(4, KEPT)).astype(np.float32)
    (work / "evaluation").mkdir()
    np.save(work / "evaluation" / "looks.npy", looks)
    write_json(
        work / "evaluation" / "typical.json",
        {"scenes": {"mall": [0], "forest": [1]}, "labels": {"armchair": [2], "lemon": [1]}},
    )
