"""The table: every adapter's TinyBench rows, and how far they lie from text only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.evaluation.jobs import StoredPictures
from training.evaluation.metrics import Interval, mean_interval
from training.evaluation.rows import ROWS, SamplingSettings
from training.evaluation.tinybench import TinyBench
from training.runs import atomic_path
from training.toy.data.pictures import reference_image

from ..comfyui import ROOT
from ..omega_sweep.report import difference

BUNDLED, TEXT = "subject_diffusion", "text only"
TITLES = {
    BUNDLED: "Subject-Diffusion, as shipped",
    "ip_adapter": "IP-Adapter plus",
    "ms_diffusion": "MS-Diffusion",
}
SHUFFLED_TITLE = "the same, another subject's picture"
KIND_TITLES = {"one": "one subject", "two": "two subjects"}
COLUMNS = {
    "cosine": "cosine",
    "top1": "top-1",
    "top5": "top-5",
    "unmixed": "unmixed",
    "box_iou": "box IoU",
}
SWAP_COLUMNS = {
    "per_picture": "nearer to its own design (chance .5)",
    "both": "both pictures of a pair (chance .25)",
}
SHEET_ROW, SHEET_PICTURES = "one_subject", 12
# What the segmenter finds in a box that nothing was asked for is no subject.
NOT_OF_TEXT = ("box_iou",)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The rows of one folder of pictures.

    Attributes:
        per_query: by row's name, every score as (Q,).
        swap: of single pictures and of pairs; empty without that row.
    """

    per_query: Mapping[str, Mapping[str, np.ndarray]]
    swap: Mapping[str, Interval]


def measure(work: Path, pictures: Path, out: Path, limit: int) -> tuple[dict[str, Measured], int]:
    """TinyBench on the folders of `pictures` that are there, and the number of subjects in its
    gallery; writes a sheet: the first subjects, below them each folder's pictures of them."""
    weights, settings = ROOT / "weights", SamplingSettings()
    bench = TinyBench(work, weights, out, settings, limit)
    _ = bench.segmenter  # one for all folders
    measured, sheet = {}, [_references(bench)]
    for name in TITLES:
        folder = pictures / name
        own = bench.for_weights(weights, out / name)
        own.out.mkdir(parents=True, exist_ok=True)
        own.maker = StoredPictures(bench.library, weights, settings, folder)
        rows = [row for row in ROWS if (folder / row.name).exists()]
        for row in rows:
            own.measure(row)
        for row in rows:
            own.measure_matches(row)
        measured[name] = Measured(
            per_query={row.name: own.results[row.name].per_query() for row in rows}, swap=own.swap
        )
        if SHEET_ROW in own.results:
            sheet.append(own.results[SHEET_ROW].pictures[:SHEET_PICTURES])
    with atomic_path(out / "trained_heads.png") as temporary:
        lines = [np.concatenate(list(pictures), axis=1) for pictures in sheet]
        Image.fromarray(np.concatenate(lines)).save(temporary, "PNG")
    return measured, len(bench.judge.gallery.identities)


def _references(bench: TinyBench) -> np.ndarray:
    """The pictures (P, H, H, 3) uint8 that the sheet's subjects are given by."""
    rows = [query.subjects[0].reference_row for query in bench.queries["one"][:SHEET_PICTURES]]
    return np.stack([reference_image(np.asarray(bench.library.cutouts[row])) for row in rows])


def table(measured: Mapping[str, Measured], num_identities: int) -> list[str]:
    """Markdown lines of the folders' rows; text only is among the rows of the bundled adapter."""
    texts = measured[BUNDLED].per_query
    count = len(texts["one_text_only"]["cosine"])
    lines = [
        f"{count} queries of TinyBench a row: held-out subjects, their boxes, held-out scenes, "
        f"{num_identities} subjects in the gallery. Brackets: 95 % bootstrap intervals; behind "
        "each cosine its difference to text only, paired by query.",
        "",
        "| | | " + " | ".join(COLUMNS.values()) + " | cosine to text only |",
        "|---|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for kind, title in KIND_TITLES.items():
        control = texts[f"{kind}_text_only"]
        for row_title, scores in _rows_of(kind, measured):
            lead = difference(scores["cosine"], control["cosine"])
            cells = [row_title, *(_cell(scores, key) for key in COLUMNS), str(lead)]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
        cells = ["-" if key in NOT_OF_TEXT else _cell(control, key) for key in COLUMNS]
        lines.append(f"| {title} | {TEXT} | " + " | ".join(cells) + " | - |")
    return [*lines, "", *_swap_lines(measured)]


def _rows_of(
    kind: str, measured: Mapping[str, Measured]
) -> Iterator[tuple[str, Mapping[str, np.ndarray]]]:
    """Title and scores of every row of the kind that shows subjects."""
    for name, one in measured.items():
        for row in ROWS:
            shows_subjects = row.kind == kind and row.source in ("subject", "shuffled")
            if shows_subjects and row.name in one.per_query:
                title = TITLES[name] if row.source == "subject" else SHUFFLED_TITLE
                yield title, one.per_query[row.name]


def _cell(scores: Mapping[str, np.ndarray], key: str) -> str:
    return str(mean_interval(scores[key])) if key in scores else "-"


def _swap_lines(measured: Mapping[str, Measured]) -> list[str]:
    """Two designs of one label under one caption: which of them the picture is nearer to."""
    swaps = {name: one.swap for name, one in measured.items() if one.swap}
    if not swaps:
        return []
    return [
        "| swap test | " + " | ".join(SWAP_COLUMNS.values()) + " |",
        "|---|" + "---|" * len(SWAP_COLUMNS),
        *(
            f"| {TITLES[name]} | " + " | ".join(str(swap[key]) for key in SWAP_COLUMNS) + " |"
            for name, swap in swaps.items()
        ),
    ]
