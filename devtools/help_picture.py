"""Draws the picture of a help page: panels side by side, each with its caption.

Executed with the environment's Python (it needs Pillow): `python help_picture.py OUT SPEC`. SPEC is
JSON: [{"caption", "files": [...]}].
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from contact_sheet import INK, PAPER, text_font
from PIL import Image, ImageDraw

SIDE, GAP, TEXT_HEIGHT, MARGIN = 192, 6, 22, 8
WIDEST = 4  # panels of one image in a row


def draw_panel(panel: dict[str, Any]) -> Image.Image:
    """The images of a panel in a row, under the caption."""
    images = []
    for file in panel["files"]:
        image = Image.open(file).convert("RGB")
        scale = SIDE / image.height
        resampling = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
        images.append(image.resize((round(image.width * scale), SIDE), resampling))
    font = text_font()
    text_width = round(font.getlength(panel["caption"]))
    width = max(sum(image.width + GAP for image in images) - GAP, text_width)
    canvas = Image.new("RGB", (width, TEXT_HEIGHT + SIDE), PAPER)
    ImageDraw.Draw(canvas).text((0, 0), panel["caption"], fill=INK, font=font)
    left = 0
    for image in images:
        canvas.paste(image, (left, TEXT_HEIGHT))
        left += image.width + GAP
    return canvas


def draw(spec: list[dict[str, Any]]) -> Image.Image:
    """All panels, in as few rows as fit."""
    limit = WIDEST * (SIDE + 2 * GAP)
    rows: list[list[Image.Image]] = [[]]
    for panel in map(draw_panel, spec):
        taken = sum(image.width + 2 * GAP for image in rows[-1])
        if rows[-1] and taken + panel.width > limit:
            rows.append([])
        rows[-1].append(panel)
    widths = [sum(image.width + 2 * GAP for image in row) - 2 * GAP for row in rows]
    height = len(rows) * (TEXT_HEIGHT + SIDE + GAP) - GAP
    canvas = Image.new("RGB", (max(widths) + 2 * MARGIN, height + 2 * MARGIN), PAPER)
    top = MARGIN
    for row in rows:
        left = MARGIN
        for image in row:
            canvas.paste(image, (left, top))
            left += image.width + 2 * GAP
        top += TEXT_HEIGHT + SIDE + GAP
    return canvas


def main(out: str, spec: str) -> None:
    partial = f"{out}.part"
    draw(json.loads(spec)).save(partial, format="JPEG", quality=85, optimize=True)
    os.replace(partial, out)


if __name__ == "__main__":
    main(*sys.argv[1:3])
