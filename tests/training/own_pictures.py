"""A folder as a user has it: pictures of the sample subjects on plain grounds, masks, a list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SUBJECTS = Path(__file__).resolve().parents[2] / "assets" / "subjects"
NAMES = ("crab", "guitar", "owl", "hamburger", "teddy-bear", "vase-lamp")
WIDTH, HEIGHT = 160, 128


def write_pictures(folder: Path, count: int = 12, seed: int = 0) -> Path:
    """Write ``count`` pictures of one or two subjects, their masks and pictures.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lines = []
    for number in range(count):
        chosen = rng.permutation(len(NAMES))[: 1 + number % 2]
        picture = Image.new("RGB", (WIDTH, HEIGHT), tuple(rng.integers(90, 255, 3).tolist()))
        subjects = []
        for place, index in enumerate(chosen):
            name = NAMES[index]
            cutout = Image.open(SUBJECTS / f"{name}.png").convert("RGBA").resize((64, 64))
            corner = (16 + 64 * place, int(rng.integers(8, 56)))
            picture.paste(cutout, corner, cutout)
            mask = Image.new("L", picture.size)
            mask.paste(255, (*corner, corner[0] + 64, corner[1] + 64), cutout.getchannel("A"))
            mask_name = f"{number:03d}_{place}.png"
            mask.save(folder / mask_name)
            label = name.replace("-", " ")
            subjects.append({"label": label, "mask": mask_name, "identity": name})
        picture.save(folder / f"{number:03d}.jpg", quality=95)
        labels = " and ".join(f"a {s['label']}" for s in subjects)
        entry = {"picture": f"{number:03d}.jpg", "caption": f"{labels} on a plain background"}
        lines.append(json.dumps({**entry, "subjects": subjects}))
    path = folder / "pictures.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
