"""The table of variants, and sheets of what they draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from training.evaluation.metrics import mean_interval
from training.runs import atomic_path
from training.toy.text.questions import Question

COLUMNS = {
    "group": "label group, %",
    "group_in_box": "in TinyBench's box, %",
    "scene": "scene, %",
    "loss": "loss, 1e-3",
    "loss_over": "loss, less (a)'s",
    "label_gap": "loss of a wrong label, +%",
    "gap_over": "wrong label, less (a)'s",
    "scene_gap": "loss of a wrong scene, +%",
    "label_effect": "a label moves, % of a scene",
}
READ_COLUMNS = {
    "read_label": "R2 of a label at its end",
    "read_late": "at the caption's end",
    "read_scene": "of a scene",
}
COMPARED = {"loss": "loss_over", "label_gap": "gap_over"}
SHARES = ("group", "group_in_box", "scene")
TENTHS = (*SHARES, "loss", "loss_over", "label_effect")
SHOWN, PER_ROW, CAPTION = 64, 8, 12


def cell(key: str, values: Sequence[float]) -> str:
    """A mean with its interval."""
    interval = mean_interval(np.asarray(values) * (100 if key in SHARES else 1))
    assert interval is not None
    digits = 1 if key in TENTHS else 2
    return f"{interval.value:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def with_differences(rows: Sequence[Mapping[str, Any]], title: str) -> list[dict[str, Any]]:
    """Rows with how much larger their losses are than the row's called ``title``, by question."""
    found = next((row for row in rows if row["title"] == title), None)
    if found is None:
        return [dict(row) for row in rows]
    more = []
    for row in rows:
        scores = dict(row["scores"])
        for key, over in COMPARED.items():
            own = found["scores"].get(key, ())
            if row is not found and len(scores.get(key, ())) == len(own) > 0:
                scores[over] = (np.asarray(scores[key]) - np.asarray(own)).tolist()
        more.append({**row, "scores": scores})
    return more


def table(rows: Sequence[Mapping[str, Any]], against: str = "") -> list[str]:
    """Markdown lines; columns that no row has are left out. ``against``: the title of the row that
    the others' losses are compared with."""
    rows = with_differences(rows, against)
    measured = [key for key in COLUMNS if any(key in row["scores"] for row in rows)]
    read = [key for key in READ_COLUMNS if any(key in row["about"] for row in rows)]
    titles = [*(COLUMNS[key] for key in measured), *(READ_COLUMNS[key] for key in read)]
    lines = [
        "| | samples | budget, 1e12 | guidance, steps | " + " | ".join(titles) + " |",
        "|---|---|---|---|" + "---|" * len(titles),
    ]
    for row in rows:
        about, scores = row["about"], row["scores"]
        spent = [str(about.get("samples", "-")), "-"]
        if "tera" in about:
            spent[1] = f"{about['tera']:.1f}"
        drawn = f"{about['guidance']:g}, {about['sampling_steps']}" if "guidance" in about else "-"
        cells = [cell(key, scores[key]) if key in scores else "-" for key in measured]
        cells += [f"{about[key]:.2f}" if key in about else "-" for key in read]
        lines.append(f"| {row['title']} | " + " | ".join([*spent, drawn, *cells]) + " |")
    return lines


def sheet_of(questions: Sequence[Question], pictures: np.ndarray, path: Path) -> None:
    """The first pictures with what was asked, in the order of the questions."""
    shown = list(zip(questions, pictures, strict=True))[:SHOWN]
    height, width = pictures.shape[1:3]
    rows = -(-len(shown) // PER_ROW)
    sheet = Image.new("RGB", (PER_ROW * width, rows * (height + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (question, picture) in enumerate(shown):
        left, top = number % PER_ROW * width, number // PER_ROW * (height + CAPTION)
        sheet.paste(Image.fromarray(picture), (left, top + CAPTION))
        draw.text((left + 1, top), f"{question.label}, {question.scene}"[:22], fill="black")
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
