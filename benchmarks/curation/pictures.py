"""Pictures of 512 x 512 with two subjects each, as JPEG files and a list of records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from training.curation.record import FoundEntity, PictureSource, Record
from training.curation.record_masks import run_lengths

from .detections import SUBJECTS

SIDE, SUBJECT = 512, 230
CORNERS = ((15, 140), (265, 130))


def write_pictures(folder: Path, count: int, seed: int = 0) -> Path:
    """Write ``count`` different pictures; the list of their records, masks included."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = sorted(SUBJECTS.glob("*.png"))
    size = (SUBJECT, SUBJECT)
    cutouts = [(p.stem, Image.open(p).convert("RGBA").resize(size)) for p in paths]
    lines = []
    for number in range(count):
        picture = _draw_ground(rng)
        entities = []
        for corner in CORNERS:
            label, cutout = cutouts[rng.integers(len(cutouts))]
            picture.paste(cutout, corner, cutout)
            entities.append(_find(label, cutout, corner))
        path = folder / f"{number:06d}.jpg"
        picture.save(path, quality=90)
        record = Record(
            key=path.stem,
            picture=PictureSource(path=str(path)),
            caption=" and ".join(f"a {entity.label}" for entity in entities),
            entities=tuple(entities),
        )
        lines.append(record.to_json() + "\n")
    listed = folder / "pictures.jsonl"
    listed.write_text("".join(lines), encoding="utf-8")
    return listed


def _draw_ground(rng: np.random.Generator) -> Image.Image:
    """Soft colours with the grain of a photograph, so that a JPEG file has a photograph's size."""
    colours = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    ground = np.asarray(colours.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.integers(-12, 13, (SIDE, SIDE, 1), dtype=np.int16)
    return Image.fromarray(np.clip(ground + grain, 0, 255).astype(np.uint8))


def _find(label: str, cutout: Image.Image, corner: tuple[int, int]) -> FoundEntity:
    """The subject in its whole box, as thick as rule 6 wants it."""
    mask = np.zeros((SIDE, SIDE), bool)
    left, top = corner
    alpha = np.asarray(cutout.getchannel("A")) >= 128
    alpha[SUBJECT // 8 : -SUBJECT // 8, SUBJECT // 8 : -SUBJECT // 8] = True
    mask[top : top + SUBJECT, left : left + SUBJECT] = alpha
    box = (left / SIDE, top / SIDE, (left + SUBJECT) / SIDE, (top + SUBJECT) / SIDE)
    return FoundEntity(label=label, box_xyxy=box, score=0.9, mask=run_lengths(mask))
