"""Contact sheets: the reference, what was asked, what came out, and what it was taken for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..toy.data.library import Library
from ..toy.data.pictures import reference_image
from .queries import Query
from .scoring import RowScores

# Shapes: Q queries, N subjects, H picture side (128).

BOX_COLORS = ((230, 60, 40), (40, 110, 230), (30, 160, 60), (220, 160, 20))
CAPTION_HEIGHT = 26
GAP = 6
COLUMNS = 3


def with_boxes(picture: np.ndarray, query: Query) -> Image.Image:
    """The picture (H, H, 3) with the asked boxes drawn."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for subject, color in zip(query.subjects, BOX_COLORS, strict=False):
        x1, y1, x2, y2 = subject.box_px
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), outline=color)
    return image


def query_strip(
    library: Library, query: Query, picture: np.ndarray, scores: RowScores, index: int
) -> Image.Image:
    """One query: references, generated picture, the same with boxes, nearest neighbours."""
    references = [library.cutouts[s.reference_row] for s in query.subjects]
    nearest = [library.cutouts[row] for row in scores.nearest_row[index]]
    tiles = [Image.fromarray(reference_image(np.asarray(rgba))) for rgba in references]
    tiles += [Image.fromarray(picture), with_boxes(picture, query)]
    tiles += [Image.fromarray(reference_image(np.asarray(rgba))) for rgba in nearest]
    side = picture.shape[0]
    strip = Image.new("RGB", (len(tiles) * (side + GAP), side + CAPTION_HEIGHT + GAP), "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default()
    for column, tile in enumerate(tiles):
        strip.paste(tile, (column * (side + GAP), 0))
    labels = [subject.label for subject in query.subjects]
    ranks = [f"rank {int(rank) + 1}" for rank in scores.rank[index]]
    captions = [*labels, query.prompt, "", *ranks]
    for column, caption in enumerate(captions):
        width = side + GAP if column != len(labels) else 2 * (side + GAP)
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
