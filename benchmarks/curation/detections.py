"""What a detector might find in scenes whose truth is known: the truth, perturbed.

Scenes are the repository's sample subjects pasted on each other, so that every visible pixel's
owner is known. A detector's faults are added by chance: shifted boxes, second boxes of the same
thing, wrong labels, low scores, crowds of small boxes, groups, parts, masks that lack or exceed.
# Shapes: H, W picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from training.curation.record import FoundEntity, PictureSource, Record
from training.curation.record_masks import run_lengths

SUBJECTS = Path(__file__).resolve().parents[2] / "assets" / "subjects"
LABELS = ("crab", "guitar", "owl", "hamburger", "teddy bear", "Crab", "human hand")
SIZES = ((96, 96), (128, 96), (96, 128), (160, 60), (64, 64))
MOST_PASTED = 5


def draw_detections(count: int, seed: int = 0) -> Iterator[Record]:
    """``count`` pictures with detections, the same for the same seed; no pixels, masks alone."""
    rng = np.random.default_rng(seed)
    cutouts = [Image.open(path).getchannel("A") for path in sorted(SUBJECTS.glob("*.png"))]
    scenes = [_draw_scene(rng, cutouts) for _ in range(max(1, min(400, count // 8)))]
    for number in range(count):
        width, height, masks = scenes[number % len(scenes)]
        entities = [found for mask in masks for found in _detect(mask, rng)]
        if rng.random() < 0.1:
            entities += _crowd(rng, width, height)
        yield Record(
            key=f"{number:06d}",
            picture=PictureSource(path=f"{number:06d}.jpg"),
            width=width,
            height=height,
            entities=tuple(entities[place] for place in rng.permutation(len(entities))),
        )


def _draw_scene(
    rng: np.random.Generator, cutouts: list[Image.Image]
) -> tuple[int, int, list[np.ndarray]]:
    """Width, height and the visible masks (H, W) bool of one to five subjects."""
    width, height = SIZES[rng.integers(len(SIZES))]
    masks: list[np.ndarray] = []
    for _ in range(rng.integers(1, MOST_PASTED + 1)):
        share = rng.choice((0.35, 0.5, 0.7, 0.9), p=(0.25, 0.45, 0.25, 0.05))
        size = (max(4, int(width * share)), max(4, int(height * share)))
        corner = (int(rng.integers(width - size[0] + 1)), int(rng.integers(height - size[1] + 1)))
        canvas = Image.new("L", (width, height))
        canvas.paste(cutouts[rng.integers(len(cutouts))].resize(size), corner)
        mask = np.asarray(canvas) >= 128
        masks = [earlier & ~mask for earlier in masks] + [mask]
    return width, height, [mask for mask in masks if mask.sum() >= 16]


def _detect(mask: np.ndarray, rng: np.random.Generator) -> list[FoundEntity]:
    """The subject as a detector may find it: never, once, or several times."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    truth = np.array([columns[0] / width, rows[0] / height,
                      (columns[-1] + 1) / width, (rows[-1] + 1) / height])  # fmt: skip
    label = LABELS[rng.integers(len(LABELS))]
    found = []
    for _ in range(rng.choice((0, 1, 2, 3), p=(0.03, 0.75, 0.15, 0.07))):
        spread = rng.choice((0.0, 0.01, 0.05, 0.2), p=(0.4, 0.3, 0.2, 0.1))
        box = _ordered(truth + rng.normal(0, spread, 4))
        entity = FoundEntity(
            label=label if rng.random() < 0.8 else LABELS[rng.integers(len(LABELS))],
            box_xyxy=box,
            score=float(rng.choice((1.0, 0.2, rng.random(), round(rng.random(), 1)))),
            mask=run_lengths(_damaged(mask, rng)),
            is_group=bool(rng.random() < 0.03),
        )
        found.append(replace(entity, is_body_part=entity.label.startswith("human")))
    return found


def _ordered(box: np.ndarray) -> tuple[float, float, float, float]:
    """A box in 0..1 with its corners in order and at least a hundredth apart."""
    clipped = np.clip(box, 0, 1)
    low, high = np.minimum(clipped[:2], clipped[2:]), np.maximum(clipped[:2], clipped[2:])
    low = np.minimum(low, 0.99)
    high = np.maximum(high, low + 0.01)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _damaged(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A segmentation of the mask: right, with stripes missing, its whole box, or everything."""
    kind = rng.random()
    if kind < 0.05:
        return np.ones_like(mask)
    if kind < 0.6:  # much that people photograph fills its box better than guitars do
        rows, columns = mask.any(axis=1, keepdims=True), mask.any(axis=0, keepdims=True)
        mask = np.logical_and(rows, columns)
    if 0.5 < kind < 0.7:
        mask = mask.copy()
        mask[:: int(rng.integers(2, 6))] = False
    return mask


def _crowd(rng: np.random.Generator, width: int, height: int) -> list[FoundEntity]:
    """Four to eight boxes of one label beside each other, each above the smallest area."""
    label = LABELS[rng.integers(len(LABELS) - 1)]
    mask = run_lengths(np.ones((height, width), bool))
    found = []
    for number in range(rng.integers(4, 9)):
        left, top = (number % 4) / 4, (number // 4) / 2
        box = (left, top, left + 0.25, top + 0.5)
        found.append(FoundEntity(label=label, box_xyxy=box, score=float(rng.random()), mask=mask))
    return found
