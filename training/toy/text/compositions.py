"""Training pictures of a mix: how many subjects, how often none, where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...dataset.shard_file import write_shard
from ..data.compose import (
    PLAIN_CAPTION,
    Composite,
    Cutout,
    compose,
    plain_background,
)
from ..data.library import Library, draw_rows, load_library
from ..data.pictures import SIDE
from ..data.shards import sample_members
from .settings import Mix
from .typical import typical_library

SEED = 73
SAMPLES_PER_SHARD = 2000
SCENE_TEMPLATES = ("{}", "a photo {}", "a picture {}", "an image {}")


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


def make_pictures(work: Path, mix: Mix, folder: Path, count: int) -> Path:
    """The first ``count`` pictures of a mix, of train identities and scenes, as shards in
    ``folder``, which is returned; those there already stay."""
    library = library_of(mix, load_library(work, "train", "train"), work)
    for number, first in enumerate(range(0, count, SAMPLES_PER_SHARD)):
        path = folder / f"{number:05d}.tar"
        if not path.exists():
            last = min(count, first + SAMPLES_PER_SHARD)
            write_shard(path, members(library, mix, first, last))
            print(f"{path.name} of {folder.name} written", flush=True)
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
