"""Training pictures of another mix than the recipe's: how many subjects, how often none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from subject_diffusion_core.tiny.layouts import SIZE_RANGES
from training.dataset.shard_file import write_shard
from training.toy.data.compose import (
    PLAIN_CAPTION,
    Composite,
    Cutout,
    compose,
    plain_background,
)
from training.toy.data.library import Library, draw_rows, load_library
from training.toy.data.pictures import SIDE
from training.toy.data.shards import sample_members
from training.toy.stages import TRAIN_SHARDS

from .typical import typical_library

SEED = 73
SAMPLES_PER_SHARD = 2000
SCENE_TEMPLATES = ("{}", "a photo {}", "a picture {}", "an image {}")


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Shares of pictures: ``counts`` with 0, 1, 2, 3, 4 subjects; ``plain`` before a plain colour.

    A single subject stands near the middle in the share ``centred``, as subjects of photographs do;
    there ``size`` is its longer side at least and at most, ``spread`` the standard deviation of its
    place, both of the picture's side. Backgrounds are mirrored half of the time, unless not
    ``mirrored``. With ``views``, only the typical pictures are used (typical.py), so many of a
    scene; of subjects, too, unless it is ``all_cutouts``. The recipe's is (0, .45, .35, .10, .10)
    and .08; its pictures are those of the data stage.
    """

    counts: tuple[float, ...]
    plain: float
    centred: float = 0.0
    size: tuple[float, float] = SIZE_RANGES[1]
    spread: float = 0.06
    mirrored: bool = True
    views: int = 0
    all_cutouts: bool = False


RECIPE = "recipe"
FEW = Mix(counts=(0.15, 0.65, 0.20), plain=0.04)
DRAWN = Mix(counts=(0.2, 0.75, 0.05), plain=0.04, centred=1.0, size=(0.54, 0.66), spread=0.02)
TYPICAL = Mix(
    counts=(0.25, 0.75),
    plain=0.03,
    centred=1.0,
    size=(0.48, 0.52),
    spread=0.01,
    mirrored=False,
    views=12,
)
MIXES = {
    "few": FEW,
    "centred": replace(FEW, centred=0.7),
    "drawn": DRAWN,
    "middle": replace(DRAWN, counts=(0.25, 0.7, 0.05), size=(0.45, 0.55)),
    "typical": TYPICAL,
    "three_views": replace(TYPICAL, views=3),
    "adapter": Mix(
        counts=(0.0, 0.45, 0.35, 0.10, 0.10),
        plain=0.08,
        mirrored=False,
        views=3,
        all_cutouts=True,
    ),
}


def scene_alone(background: np.ndarray, caption: str, rng: np.random.Generator) -> Composite:
    """A photograph without a subject; shards need one, so it is the whole picture."""
    side = background.shape[0]
    return Composite(
        image=background,
        masks=np.ones((1, side, side), bool),
        boxes_xyxy=np.array([[0.0, 0.0, 1.0, 1.0]]),
        flipped=np.zeros(1, bool),
        caption=SCENE_TEMPLATES[rng.integers(len(SCENE_TEMPLATES))].format(caption),
    )


def middle_box(
    cutout: Cutout, sizes: tuple[float, float], spread: float, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A box for a cut-out near the middle, x1 y1 x2 y2 in pixels; ``sizes`` and ``spread`` as a
    :class:`Mix` has them."""
    scale = rng.uniform(*sizes) * SIDE / max(cutout.width, cutout.height)
    width, height = (max(2, round(side * scale)) for side in (cutout.width, cutout.height))
    x, y = (
        int(np.clip(round((SIDE - size) / 2 + rng.normal(0, spread * SIDE)), 0, SIDE - size))
        for size in (width, height)
    )
    return x, y, x + width, y + height


def mixed_sample(library: Library, mix: Mix, index: int) -> tuple[Composite, dict[str, Any]]:
    """Picture ``index`` of a mix with the metadata stored beside it."""
    rng = np.random.default_rng((SEED, index))
    count = int(rng.choice(len(mix.counts), p=mix.counts))
    if count and rng.random() < mix.plain:
        background, scene, caption = plain_background(rng), "plain", PLAIN_CAPTION
    else:
        row = library.scene_rows[rng.integers(len(library.scene_rows))]
        background = np.asarray(library.backgrounds[row])
        if mix.mirrored and rng.random() >= 0.5:
            background = background[:, ::-1]
        scene, caption = library.scenes[row]["scene"], library.scenes[row]["caption"]
    if count == 0:
        composite = scene_alone(np.ascontiguousarray(background), caption, rng)
        about = [{"label": scene, "identity": "", "cutout": -1}]
    else:
        rows = draw_rows(library, rng, count)
        cutouts = [library.cutout(row) for row in rows]
        middle = count == 1 and rng.random() < mix.centred
        boxes = [middle_box(cutouts[0], mix.size, mix.spread, rng)] if middle else None
        composite = compose(
            cutouts, background, caption, rng, boxes_px=boxes, flipped=[False] * count
        )
        about = [
            {"label": library.records[row]["label"], "cutout": row,
             "identity": library.records[row]["identity"]}
            for row in rows
        ]  # fmt: skip
    entities = [
        {**entry, "box": [round(float(v), 5) for v in box], "mask": f"mask{number}.png"}
        for number, (entry, box) in enumerate(zip(about, composite.boxes_xyxy, strict=True))
    ]
    return composite, {"caption": composite.caption, "scene": scene, "entities": entities}


def make_pictures(work: Path, name: str, count: int) -> Path:
    """The first ``count`` pictures of a mix as shards below ``work``, those there already stay; of
    the recipe's own mix all that there are."""
    if name == RECIPE:
        return work / TRAIN_SHARDS
    folder = work / f"composites-{name}"
    library = load_library(work, "train", "train")
    library = library_of(MIXES[name], library, work)
    for number, first in enumerate(range(0, count, SAMPLES_PER_SHARD)):
        path = folder / f"{number:05d}.tar"
        if not path.exists():
            last = min(count, first + SAMPLES_PER_SHARD)
            write_shard(path, members(library, MIXES[name], first, last))
            print(f"{path.name} of {name} written", flush=True)
    return folder


def library_of(mix: Mix, library: Library, work: Path) -> Library:
    """What of ``library`` a mix shows; the order of views is kept in ``work``."""
    if not mix.views:
        return library
    usual = typical_library(library, work, mix.views)
    return replace(library, scene_rows=usual.scene_rows) if mix.all_cutouts else usual


def members(library: Library, mix: Mix, first: int, last: int) -> Iterator[tuple[str, bytes]]:
    """(file name, content) of pictures first .. last - 1."""
    for index in range(first, last):
        composite, metadata = mixed_sample(library, mix, index)
        yield from sample_members(f"{index:07d}", composite, metadata)
