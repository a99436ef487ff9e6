"""The table: every adapter's scores, and how far they lie from text only, query by query.

A gallery of the subjects that the queries speak of, not of all of TinyBench's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.evaluation.jobs import StoredPictures
from training.evaluation.metric_encoder import load_metric_encoder
from training.evaluation.metrics import mean_interval
from training.evaluation.queries import Query, draw_queries
from training.evaluation.rows import ROWS, SamplingSettings
from training.evaluation.scoring import Judge, RowScores
from training.toy.data.library import load_library

from ..comfyui import ROOT
from ..omega_sweep.report import difference
from ..small_gallery import gallery_of

BUNDLED, TEXT, SHUFFLED = "subject_diffusion", "text only", "_shuffled"
TITLES = {
    BUNDLED: "Subject-Diffusion, as shipped",
    "ip_adapter": "IP-Adapter plus",
    f"ip_adapter{SHUFFLED}": "the same, another subject's picture",
    "ms_diffusion": "MS-Diffusion",
    f"ms_diffusion{SHUFFLED}": "the same, another subject's picture",
    TEXT: TEXT,
}
ROW_NAMES = {"one": "one_subject", "two": "two_subjects"}
KIND_TITLES = {"one": "one subject", "two": "two subjects"}
Scores = Mapping[tuple[str, str], RowScores]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A score of each query (Q,)."""

    title: str
    several_only: bool = False

    def of(self, scores: RowScores) -> np.ndarray:
        """(Q,)"""
        if self.title == "cosine":
            return scores.cosine.mean(axis=1)
        if self.title == "unmixed":
            return scores.unmixed.mean(axis=1)
        return scores.found(int(self.title.removeprefix("top-")))


COLUMNS = (
    Column(title="cosine"),
    Column(title="top-1"),
    Column(title="top-5"),
    Column(title="unmixed", several_only=True),
)


def table(scores: Scores, num_identities: int) -> list[str]:
    """Markdown lines; `scores` by kind and name, text only among them."""
    count = len(next(iter(scores.values())).rank)
    lines = [
        f"{count} queries of TinyBench a row: held-out subjects, their boxes, held-out scenes, "
        f"{num_identities} subjects in the gallery. Brackets: 95 % bootstrap intervals; behind "
        "each cosine its difference to text only, paired by query.",
        "",
        "| | | " + " | ".join(c.title for c in COLUMNS) + " | cosine to text only |",
        "|---|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for kind, title in KIND_TITLES.items():
        control = COLUMNS[0].of(scores[kind, TEXT])
        for name in TITLES:
            if (kind, name) not in scores:
                continue
            own = scores[kind, name]
            cells = [
                "-" if c.several_only and kind == "one" else str(mean_interval(c.of(own)))
                for c in COLUMNS
            ]
            lead = "-" if name == TEXT else str(difference(COLUMNS[0].of(own), control))
            lines.append(f"| {title} | {TITLES[name]} | " + " | ".join([*cells, lead]) + " |")
    return lines


def measure(work: Path, pictures: Path, out: Path, limit: int) -> tuple[Scores, int]:
    """Scores of all pictures that are there, and the number of subjects in the gallery."""
    library = load_library(work, "heldout", "heldout")
    queries: dict[str, list[Query]] = {
        kind: draw_queries(library, kind, limit) for kind in ROW_NAMES
    }
    encoder = load_metric_encoder()
    asked = [query for each in queries.values() for query in each]
    gallery = gallery_of(library, asked, encoder, out)
    judge = Judge(gallery=gallery, library=library, encoder=encoder)
    rows = {row.name: row for row in ROWS}
    scores = {}
    for kind, subject_row in ROW_NAMES.items():
        for name in TITLES:
            folder = pictures / (BUNDLED if name == TEXT else name.removesuffix(SHUFFLED))
            row = rows[subject_row]
            if name == TEXT or name.endswith(SHUFFLED):
                row = rows[f"{kind}_{'text_only' if name == TEXT else 'shuffled'}"]
            if not (folder / row.name).exists():
                continue
            maker = StoredPictures(library, ROOT / "weights", SamplingSettings(), folder)
            found = maker.all_of(row, queries[kind], folder)
            features = judge.crop_features(found, queries[kind])
            scores[kind, name] = judge.score(features, queries[kind])
    return scores, len(gallery.identities)
