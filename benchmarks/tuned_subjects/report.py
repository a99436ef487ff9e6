# Shapes: I subjects, S seeds of each, H side of a picture.
"""The table: every row's scores and how far they lie from its control, subject by subject; and a
sheet of pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.evaluation.metrics import Interval, bootstrap

from .rows import Row
from .scores import MEASURES
from .subjects import TunedSubject

Scores = Mapping[str, np.ndarray]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
REAL = "training picture"
FEWEST_SUBJECTS = 6  # by chance, fewer differ all in one direction more than once in 20 times
SHEET_SUBJECTS, CAPTION_HEIGHT = 6, 28


def difference(own: np.ndarray, control: np.ndarray) -> Interval:
    """Mean of own (I, S) minus control (I' >= I, S), paired: a subject's pictures count as one.

    >>> difference(np.array([[0.2, 0.4]]), np.array([[0.1, 0.1], [0.9, 0.9]])).value.round(3)
    0.2
    """
    return bootstrap(lambda mean: mean, (own - control[: len(own)]).mean(axis=1))


def table(rows: Sequence[Row], scores: Mapping[str, Scores]) -> list[str]:
    """Markdown lines of the rows measured so far, the training pictures themselves last."""
    lines = ["| | subjects | compared with | " + " | ".join(MEASURES) + " |"]
    lines.append("|---" * (3 + len(MEASURES)) + "|")
    for row in rows:
        if row.name in scores:
            lines.append(_line(row.name, row.control, scores))
    if REAL in scores:
        lines.append(_line(REAL, None, scores))
    return lines


def _line(name: str, control: str | None, scores: Mapping[str, Scores]) -> str:
    own = scores[name]
    cells = [name, str(len(own[MEASURES[0]])), control or "-"]
    for measure in MEASURES:
        cell = f"{own[measure].mean():.3f}"
        if control is not None:
            cell += f" ({_signed(difference(own[measure], scores[control][measure]))})"
        cells.append(cell)
    return "| " + " | ".join(cells) + " |"


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def resolved(rows: Sequence[Row], scores: Mapping[str, Scores]) -> list[str]:
    """A line a row: on which measures its interval leaves out 0, and on which not. Of fewer than
    `FEWEST_SUBJECTS` nothing is said."""
    lines = []
    for row in rows:
        if row.name not in scores or row.control is None:
            continue
        if len(scores[row.name][MEASURES[0]]) < FEWEST_SUBJECTS:
            lines.append(f"- {row.name}: too few subjects to tell.")
            continue
        told: dict[bool, list[str]] = {True: [], False: []}
        for measure in MEASURES:
            interval = difference(scores[row.name][measure], scores[row.control][measure])
            told[interval.low > 0 or interval.high < 0].append(measure)
        lines.append(
            f"- {row.name}: differs from {row.control} in {', '.join(told[True]) or 'nothing'}; "
            f"not resolved: {', '.join(told[False]) or 'nothing'}."
        )
    return lines


def sheet(
    subjects: Sequence[TunedSubject], pictures: Mapping[str, np.ndarray], num_seeds: int
) -> np.ndarray:
    """(., ., 3) uint8: a line for each of the first subjects, never chosen: its training picture,
    then the first seed's picture (H, H, 3) of every row's `pictures` (I * S, H, H, 3)."""
    columns = [REAL, *pictures]
    shown = subjects[:SHEET_SUBJECTS]
    side = shown[0].picture.shape[0]
    size = (len(columns) * side, len(shown) * (side + CAPTION_HEIGHT) + CAPTION_HEIGHT)
    canvas = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for column, title in enumerate(columns):
        _write(draw, (column * side, 0), title, side, font)
    for line, subject in enumerate(shown):
        top = CAPTION_HEIGHT + line * (side + CAPTION_HEIGHT)
        for column, picture in enumerate(_line_of(subject, line, pictures, num_seeds)):
            if picture is not None:
                canvas.paste(Image.fromarray(picture), (column * side, top))
        _write(draw, (0, top + side), subject.queries[0].prompt, size[0], font)
    return np.asarray(canvas)


def _line_of(
    subject: TunedSubject, number: int, pictures: Mapping[str, np.ndarray], num_seeds: int
) -> Iterator[np.ndarray | None]:
    yield subject.picture[..., :3]
    for own in pictures.values():
        yield own[number * num_seeds] if number * num_seeds < len(own) else None


def _write(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, width: int, font: Font
) -> None:
    """At most two lines, of characters 6 pixels wide."""
    per_line = width // 6
    for number in range(2):
        part = text[number * per_line : (number + 1) * per_line]
        draw.text((corner[0] + 1, corner[1] + 1 + 12 * number), part, fill="black", font=font)
