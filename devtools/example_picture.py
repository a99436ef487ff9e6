"""Draws the picture beside an example workflow: its images, enlarged, side by side.

Executed with the environment's Python (it needs Pillow): `python example_picture.py OUT IMAGES...`.
"""

from __future__ import annotations

import os
import sys

from PIL import Image

SINGLE, IN_A_ROW = 512, 256
GAP = 8


def draw(images: list[Image.Image]) -> Image.Image:
    """One image in 512 pixels, or several of 256 in a row."""
    size = SINGLE if len(images) == 1 else IN_A_ROW
    fitted = []
    for image in images:
        scale = size / max(image.size)
        shape = (round(image.width * scale), round(image.height * scale))
        fitted.append(image.convert("RGB").resize(shape, Image.Resampling.BICUBIC))
    width = sum(image.width for image in fitted) + GAP * (len(fitted) - 1)
    row = Image.new("RGB", (width, max(image.height for image in fitted)), "#ffffff")
    left = 0
    for image in fitted:
        row.paste(image, (left, 0))
        left += image.width + GAP
    return row


def main(out: str, files: list[str]) -> None:
    partial = f"{out}.part"
    draw([Image.open(file) for file in files]).save(partial, format="JPEG", quality=90)
    os.replace(partial, out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
