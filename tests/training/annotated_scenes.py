"""Scenes of the sample subjects with true boxes and masks, in the formats datasets come in."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SUBJECTS = Path(__file__).resolve().parents[2] / "assets" / "subjects"
NAMES = ("crab", "guitar", "owl", "hamburger", "teddy-bear", "vase-lamp")
WIDTH, HEIGHT = 160, 120


@dataclass(frozen=True, kw_only=True)
class TrueSubject:
    """A subject with its mask (H, W) bool and its box x1 y1 x2 y2 in pixels."""

    label: str
    mask: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A picture (H, W) and what is in it; masks do not overlap."""

    number: int
    picture: Image.Image
    subjects: tuple[TrueSubject, ...]
    caption: str


def make_scenes(count: int, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> list[Scene]:
    """Scenes of one to three subjects on plain grounds; later subjects hide earlier ones."""
    rng = np.random.default_rng(seed)
    return [_scene(number, rng, size) for number in range(1, count + 1)]


def _scene(number: int, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    picture = Image.new("RGB", size, tuple(rng.integers(90, 255, 3).tolist()))
    chosen = [NAMES[index] for index in rng.permutation(len(NAMES))[: 1 + number % 3]]
    masks: list[np.ndarray] = []
    side = size[1] // 2
    for place, name in enumerate(chosen):
        cutout = Image.open(SUBJECTS / f"{name}.png").convert("RGBA").resize((side, side))
        corner = (place * size[0] // 4, int(rng.integers(0, size[1] - side)))
        picture.paste(cutout, corner, cutout)
        canvas = Image.new("L", size)
        canvas.paste(255, (*corner, corner[0] + side, corner[1] + side), cutout.getchannel("A"))
        mask = np.asarray(canvas) >= 128
        masks = [earlier & ~mask for earlier in masks] + [mask]
    labels = [name.replace("-", " ") for name in chosen]
    subjects = tuple(
        TrueSubject(label=label, mask=mask) for label, mask in zip(labels, masks, strict=True)
    )
    caption = " and ".join(f"a {label}" for label in labels) + " on a plain ground"
    return Scene(number=number, picture=picture, subjects=subjects, caption=caption)


def save_pictures(scenes: list[Scene], folder: Path, name: str = "{:012d}.jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        scene.picture.save(folder / name.format(scene.number), quality=95)


def uncompressed_runs(mask: np.ndarray) -> list[int]:
    """COCO's run lengths as a list of numbers: down the columns, first what is outside."""
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff([0, *changes.tolist(), mask.size]).tolist()


def coco_lists(scenes: list[Scene]) -> dict[str, Any]:
    """The lists of ``instances_*.json``; masks as uncompressed run lengths."""
    categories = [{"supercategory": "thing", "id": i + 1, "name": n.replace("-", " ")}
                  for i, n in enumerate(NAMES)]  # fmt: skip
    identifiers = {category["name"]: category["id"] for category in categories}
    annotations: list[dict[str, Any]] = []
    for scene in scenes:
        for subject in scene.subjects:
            x1, y1, x2, y2 = subject.box
            height, width = subject.mask.shape
            annotations.append(
                {
                    "segmentation": {"counts": uncompressed_runs(subject.mask),
                                     "size": [height, width]},
                    "area": float(subject.mask.sum()),
                    "iscrowd": 0,
                    "image_id": scene.number,
                    "bbox": [float(x1), float(y1), float(x2 - x1), float(y2 - y1)],
                    "category_id": identifiers[subject.label],
                    "id": len(annotations) + 1,
                }
            )  # fmt: skip
    images = [
        {
            "license": 4,
            "file_name": f"{scene.number:012d}.jpg",
            "coco_url": f"http://example.org/train2017/{scene.number:012d}.jpg",
            "height": scene.picture.height,
            "width": scene.picture.width,
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"http://example.org/{scene.number}.jpg",
            "id": scene.number,
        }
        for scene in scenes
    ]
    licence = {"url": "http://example.org/by/2.0/", "id": 4, "name": "Attribution License"}
    info = {"description": "scenes", "year": 2026, "version": "1.0"}
    return {"info": info, "licenses": [licence], "images": images, "annotations": annotations,
            "categories": categories}  # fmt: skip


def coco_captions(scenes: list[Scene]) -> dict[str, Any]:
    """The lists of ``captions_*.json``: for each picture one that says nothing, and the caption."""
    texts = [(s.number, text) for s in scenes for text in ("A nice photo.", s.caption)]
    annotations = [{"image_id": n, "id": i, "caption": t} for i, (n, t) in enumerate(texts)]
    return {"info": {}, "licenses": [], "images": [], "annotations": annotations}


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def write_rows(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def png(pixels: Image.Image) -> bytes:
    buffer = io.BytesIO()
    pixels.save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(pixels: Image.Image) -> bytes:
    buffer = io.BytesIO()
    pixels.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def index_picture(scene: Scene) -> Image.Image:
    """The authors' mask picture: a palette picture whose pixels say which subject covers them."""
    indices = np.zeros(scene.subjects[0].mask.shape, np.uint8)
    for value, subject in enumerate(scene.subjects, 1):
        indices[subject.mask] = value
    picture = Image.fromarray(indices)
    picture.putpalette([c for v in range(256) for c in (v * 37 % 256, v * 91 % 256, v * 153 % 256)])
    return picture


def authors_json(scene: Scene) -> dict[str, Any]:
    """The JSON of the authors' tool, background first."""
    entries: list[dict[str, Any]] = [{"value": 0, "label": "background"}]
    for value, subject in enumerate(scene.subjects, 1):
        box = [float(v) for v in subject.box]
        entries.append({"value": value, "label": subject.label, "logit": 0.71, "box": box})
    return {"caption": scene.caption, "mask": entries}


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path
