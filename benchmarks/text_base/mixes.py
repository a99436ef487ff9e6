"""The mixes of training pictures under test, by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from training.toy.stages import TRAIN_SHARDS
from training.toy.text import compositions
from training.toy.text.settings import TYPICAL, Mix

RECIPE = "recipe"
FEW = Mix(counts=(0.15, 0.65, 0.20), plain=0.04)
DRAWN = Mix(counts=(0.2, 0.75, 0.05), plain=0.04, centred=1.0, size=(0.54, 0.66), spread=0.02)
MIXES = {
    "few": FEW,
    "centred": replace(FEW, centred=0.7),
    "drawn": DRAWN,
    "middle": replace(DRAWN, counts=(0.25, 0.7, 0.05), size=(0.45, 0.55)),
    "typical": replace(TYPICAL, views=12),
    "three_views": TYPICAL,
    "adapter": Mix(
        counts=(0.0, 0.45, 0.35, 0.10, 0.10),
        plain=0.08,
        mirrored=False,
        views=3,
        all_cutouts=True,
    ),
}


def make_pictures(work: Path, name: str, count: int) -> Path:
    """The folder with the first ``count`` pictures of a mix; of the recipe's own all there are."""
    if name == RECIPE:
        return work / TRAIN_SHARDS
    return compositions.make_pictures(work, MIXES[name], work / f"composites-{name}", count)
