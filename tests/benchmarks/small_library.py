"""Two subjects in two scenes, for the benchmarks of the small base."""

from __future__ import annotations

import numpy as np

from training.toy.data.library import Library
from training.toy.data.pictures import SIDE


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
