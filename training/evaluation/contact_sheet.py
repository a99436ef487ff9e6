"""Contact sheets: the reference, what was asked, what came out, and what it was taken for.

# Shapes: Q queries, N subjects, H picture side (128).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..loop.sheets import with_boxes
from ..toy.data.library import Library
from ..toy.data.pictures import reference_image
from .queries import Query
from .scoring import RowScores

CAPTION_HEIGHT = 26
GAP = 6
COLUMNS = 3


def query_strip(
    library: Library, query: Query, picture: np.ndarray, scores: RowScores, index: int
) -> Image.Image:
    """One query: references, generated picture, the same with boxes, nearest neighbours."""
    rows = [*(s.reference_row for s in query.subjects), *scores.nearest_row[index]]
    shown = [reference_image(np.asarray(library.cutouts[row])) for row in rows]
    boxed = with_boxes(picture, [subject.box_xyxy for subject in query.subjects])
    num = len(query.subjects)
    tiles = [*shown[:num], picture, boxed, *shown[num:]]
    side = picture.shape[0]
    strip = Image.new("RGB", (len(tiles) * (side + GAP), side + CAPTION_HEIGHT + GAP), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default()
    for column, tile in enumerate(tiles):
        strip.paste(Image.fromarray(tile), (column * (side + GAP), 0))
    labels = [subject.label for subject in query.subjects]
    ranks = [f"rank {int(rank) + 1}" for rank in scores.rank[index]]
    captions = [*labels, query.prompt, "", *ranks]
    for column, caption in enumerate(captions):
        width = side + GAP if column != num else 2 * (side + GAP)
        text = caption[: width // 6]
        draw.text((column * (side + GAP), side + 1), text, fill="black", font=font)
        draw.text((column * (side + GAP), side + 12), caption[len(text) :], fill="black", font=font)
    return strip


def contact_sheet(
    library: Library,
    queries: Sequence[Query],
    pictures: np.ndarray,
    scores: RowScores,
    limit: int = 24,
) -> Image.Image:
    """The first ``limit`` queries, never chosen: reference(s) | generated | with boxes | nearest.

    The nearest picture is the gallery entry that the crop was taken for; "rank" is the right
    subject's place.
    """
    strips = [
        query_strip(library, query, picture, scores, index)
        for index, (query, picture) in enumerate(zip(queries[:limit], pictures, strict=False))
    ]
    width, height = strips[0].size
    columns = max(1, COLUMNS + 1 - len(queries[0].subjects))
    num_rows = -(-len(strips) // columns)
    sheet = Image.new("RGB", (columns * (width + 2 * GAP), num_rows * height), "white")
    for index, strip in enumerate(strips):
        row, column = divmod(index, columns)
        sheet.paste(strip, (column * (width + 2 * GAP), row * height))
    return sheet
