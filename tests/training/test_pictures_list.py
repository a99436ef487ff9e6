"""A person's own pictures, as the list names them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from training.dataset.pictures_list import load_picture, read_list


def test_pictures_and_masks_are_turned_as_their_camera_says(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter to the right
    mask = np.zeros((20, 40), np.uint8)
    mask[:10, :10] = 255
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(tmp_path / "dog.png", exif=turned)
    Image.fromarray(mask).save(tmp_path / "mask.png", exif=turned)
    subject = {"label": "dog", "mask": "mask.png"}
    line = json.dumps({"picture": "dog.png", "caption": "a dog", "subjects": [subject]})
    (tmp_path / "list.jsonl").write_text(line)
    image, (entity,) = load_picture(read_list(tmp_path / "list.jsonl")[0])
    assert image.shape[:2] == entity.mask.shape == (40, 20)
    assert entity.mask[:10, 10:].all() and entity.mask.sum() == 100
