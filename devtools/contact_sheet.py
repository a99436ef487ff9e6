"""Draws a contact sheet: one row per result, its references with labels, the boxes, the image.

Executed with the environment's Python (it needs Pillow): `python contact_sheet.py SPEC SHEET`. SPEC
is the path of a JSON file {"title", "rows": [{"title", "image", "subjects": [{"image", "label",
"box": [x1, y1, x2, y2]}]}]}, boxes in 0..1; SHEET is the PNG to write.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, TEXT_HEIGHT = 256, 16, 24
BOX_COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd")
INK, PAPER = "#202020", "#ffffff"

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def box_colour(index: int) -> str:
    """The colour of a subject's box and caption."""
    return BOX_COLOURS[index % len(BOX_COLOURS)]


def text_font() -> Font:
    """Pillow's own font, so that a sheet looks alike on every system."""
    try:
        return ImageFont.load_default(size=15)
    except (TypeError, OSError):  # Pillow before 10.1, or built without FreeType
        return ImageFont.load_default()


def on_white(path: str, size: int) -> Image.Image:
    """A picture fitted into a white square; what is transparent becomes white."""
    picture = Image.open(path).convert("RGBA")
    scale = size / max(picture.size)
    fitted = picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    )
    square = Image.new("RGBA", (size, size), PAPER)
    corner = ((size - fitted.width) // 2, (size - fitted.height) // 2)
    square.alpha_composite(fitted, corner)
    return square.convert("RGB")


def with_boxes(picture: Image.Image, subjects: list[dict[str, Any]], font: Font) -> Image.Image:
    """The picture enlarged to a cell's width, each subject's box and label drawn on it."""
    height = round(CELL * picture.height / picture.width)
    drawn = picture.convert("RGB").resize((CELL, height), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(drawn)
    for index, subject in enumerate(subjects):
        x1, y1, x2, y2 = subject["box"]
        colour = box_colour(index)
        edges = (x1 * (CELL - 1), y1 * (height - 1), x2 * (CELL - 1), y2 * (height - 1))
        draw.rectangle(edges, outline=colour, width=2)
        draw.text((edges[0] + 4, edges[1] + 2), subject["label"], fill=colour, font=font)
    return drawn


def draw_row(row: dict[str, Any], font: Font) -> Image.Image:
    """References, the result with its boxes and the result alone, side by side under a title."""
    result = Image.open(row["image"]).convert("RGB")
    cells = [
        (subject["label"], box_colour(index), on_white(subject["image"], CELL))
        for index, subject in enumerate(row["subjects"])
    ]
    cells.append(("boxes asked for", INK, with_boxes(result, row["subjects"], font)))
    cells.append(("result", INK, with_boxes(result, [], font)))
    height = 2 * TEXT_HEIGHT + max(cell.height for _, _, cell in cells)
    canvas = Image.new("RGB", (len(cells) * (CELL + GAP) - GAP, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((0, 0), row["title"], fill=INK, font=font)
    for index, (caption, colour, cell) in enumerate(cells):
        left = index * (CELL + GAP)
        draw.text((left, TEXT_HEIGHT), caption, fill=colour, font=font)
        canvas.paste(cell, (left, 2 * TEXT_HEIGHT))
    return canvas


def draw_sheet(spec: dict[str, Any]) -> Image.Image:
    """All rows below each other under the sheet's title."""
    font = text_font()
    rows = [draw_row(row, font) for row in spec["rows"]]
    width = max(row.width for row in rows) + 2 * GAP
    height = TEXT_HEIGHT + sum(row.height + GAP for row in rows) + 2 * GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    ImageDraw.Draw(sheet).text((GAP, GAP), spec["title"], fill=INK, font=font)
    top = GAP + TEXT_HEIGHT + GAP
    for row in rows:
        sheet.paste(row, (GAP, top))
        top += row.height + GAP
    return sheet


def main(spec_file: str, sheet_file: str) -> None:
    spec = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    partial = f"{sheet_file}.part"
    draw_sheet(spec).save(partial, format="PNG")
    os.replace(partial, sheet_file)


if __name__ == "__main__":
    main(*sys.argv[1:3])
