"""TinyBench: measures whether held-out subjects are recognised.

Every part is kept: the gallery's features in the work folder, a row's pictures in the output
folder. The same command goes on where it stopped.
# Shapes: Q queries, N subjects of a query, F feature width, H picture side (128).
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..runs import save_picture
from ..toy.data.label_rules import group_of
from ..toy.data.library import load_library
from ..toy.data.split import identities_sha256
from .box_iou import SubjectSegmenter, load_segmenter, row_ious
from .contact_sheet import contact_sheet
from .gallery import build_gallery
from .metric_encoder import load_metric_encoder
from .metrics import Interval, lead_over_controls, mean_interval, share_of_bound, swap_scores
from .pictures import PictureMaker, pasted_boxes
from .queries import KINDS, NUM_SUBJECTS, QUERY_SEED, Query, draw_queries
from .report import write_report
from .rows import PASTED_SOURCES, ROWS, Row, SamplingSettings
from .scoring import Judge, RowScores, summarise
from .text_match import LinearHead, load_heads


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """A row with its pictures (Q, H, H, 3), its crops' features (Q, N, F) and all scores.

    ``matches``: (Q,) by name: box IoU, label group, scene; empty before they are measured.
    ``groups``: (Q, N) of subjects' label groups; None before they are.
    """

    row: Row
    queries: list[Query]
    pictures: np.ndarray
    features: np.ndarray
    scores: RowScores
    matches: dict[str, np.ndarray]
    groups: np.ndarray | None = None

    def groups_by_label(self) -> dict[str, Interval | None]:
        """Label groups of subjects whose label occurs in training, and of the others."""
        if self.groups is None:
            return {}
        seen = self.scores.is_seen
        return {
            "group_seen": mean_interval(self.groups[seen]),
            "group_unseen": mean_interval(self.groups[~seen]),
        }

    def per_query(self) -> dict[str, np.ndarray]:
        """Every score as (Q,), to be paired with the same queries' scores of other weights."""
        values = {
            "top1": self.scores.found(1),
            "top5": self.scores.found(5),
            "cosine": self.scores.cosine.mean(axis=1),
        }
        if self.scores.unmixed.shape[1] > 1:
            values["unmixed"] = self.scores.unmixed.mean(axis=1)
        return values | self.matches


class TinyBench:
    """Measures rows one after the other and writes the report after each.

    Args:
        work: data folder (cut-outs, backgrounds); the gallery's features are kept there.
        weights: folder with the two weight files.
        out: folder for pictures, contact sheets and reports.
        settings: how to sample.
        count: queries of each kind.
    """

    def __init__(
        self, work: Path, weights: Path, out: Path, settings: SamplingSettings, count: int
    ) -> None:
        self.work, self.out, self.settings = work, out, settings
        self.seconds: dict[str, float] = {}
        self.library = load_library(work, "heldout", "heldout")
        self.maker: PictureMaker = PictureMaker(self.library, weights, settings)
        self.encoder = load_metric_encoder()
        self.queries = {kind: draw_queries(self.library, kind, count) for kind in KINDS}
        with self.timed("gallery"):
            gallery = build_gallery(self.library, self.encoder, work / "evaluation")
        self.judge = Judge(gallery=gallery, library=self.library, encoder=self.encoder)
        self.results: dict[str, RowResult] = {}
        self.swap: dict[str, Interval] = {}

    def for_weights(self, weights: Path, out: Path) -> TinyBench:
        """A bench of other weights and no results, with this one's queries and encoders."""
        bench = copy.copy(self)
        bench.out, bench.seconds, bench.results, bench.swap = out, {}, {}, {}
        bench.maker = PictureMaker(self.library, weights, self.settings)
        return bench

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Record the seconds of a block."""
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start

    def measure_all(self, rows: Sequence[Row] = ROWS, matches: bool = True) -> None:
        """Identity of all rows first, then, with ``matches``, boxes and texts; prints the table."""
        for row in rows:
            self.measure(row)
        for row in rows if matches else ():
            self.measure_matches(row)
        print((self.out / "tinybench.md").read_text(encoding="utf-8"))

    def measure(self, row: Row) -> None:
        """Make or load a row's pictures, score them, write its contact sheet and the report."""
        queries = self.queries[row.kind]
        with self.timed(row.name):
            pictures = self.maker.all_of(row, queries, self.out / "pictures")
            features = self.judge.crop_features(pictures, queries)
            scores = self.judge.score(features, queries)
        self.results[row.name] = RowResult(
            row=row, queries=queries, pictures=pictures, features=features, scores=scores,
            matches={},
        )  # fmt: skip
        if row.kind == "swap":
            self.swap = swap_scores(*self.judge.twin_cosines(features[:, 0], queries))
        sheet = contact_sheet(self.library, queries, pictures, scores)
        save_picture(self.out / f"{row.name}.png", np.asarray(sheet))
        write_report(self.result(), self.out)

    @cached_property
    def segmenter(self) -> SubjectSegmenter:
        """The segmenter for boxes; trained when first needed."""
        with self.timed("segmenter"):
            return load_segmenter(self.work)

    @cached_property
    def heads(self) -> dict[str, LinearHead]:
        """The linear heads for text; fitted when first needed."""
        with self.timed("text heads"):
            return load_heads(self.work, self.encoder)

    def measure_matches(self, row: Row) -> None:
        """Box, label group and scene of a row measured before; writes the report again."""
        result = self.results[row.name]
        queries, features = result.queries, result.features
        pasted = row.source in PASTED_SOURCES
        boxes = [
            pasted_boxes(self.library, query) if pasted else [s.box_px for s in query.subjects]
            for query in queries
        ]
        groups = [
            group_of(self.library.records[subject.reference_row]["category"])
            for query in queries
            for subject in query.subjects
        ]
        scenes = [query.scene for query in queries]
        by_crop = self.heads["group"].matches(features.reshape(len(groups), -1), groups)
        by_crop = by_crop.reshape(len(queries), -1)
        matches = {
            "box_iou": row_ious(self.segmenter, result.pictures, boxes).mean(axis=1),
            "group": by_crop.mean(axis=1),
            "scene": self.heads["scene"].matches(self.encoder.encode(result.pictures), scenes),
        }
        self.results[row.name] = replace(result, matches=matches, groups=by_crop)
        write_report(self.result(), self.out)

    def leads(self) -> dict[str, Interval]:
        """Subject-driven minus three times the better control, for kinds with all their rows."""
        leads = {}
        for kind, subject in (("one", "one_subject"), ("two", "two_subjects")):
            names = (subject, f"{kind}_text_only", f"{kind}_shuffled")
            if all(name in self.results for name in names):
                found, *controls = (self.results[name].scores.found() for name in names)
                leads[kind] = lead_over_controls(found, controls)
        return leads

    def bound_shares(self) -> dict[str, Interval]:
        """Rows as a share of their bound: real composites through the VAE; of those, real ones."""
        shares = {}
        for kind in NUM_SUBJECTS:
            names = [f"{kind}_{'subject' if kind == 'one' else 'subjects'}"]
            names += [f"{kind}_real_vae", f"{kind}_real"]
            for name, bound in itertools.pairwise(names):
                if name in self.results and bound in self.results:
                    found = (self.results[row].scores.found() for row in (name, bound))
                    shares[name] = share_of_bound(*found)
        return shares

    def result(self) -> dict[str, Any]:
        """Everything measured so far."""
        needs_weights = any(result.row.source != "real" for result in self.results.values())
        return {
            "settings": {**asdict(self.settings), "query_seed": QUERY_SEED},
            "weights_sha256": self.maker.weights_sha256 if needs_weights else "none",
            "identities_sha256": identities_sha256(),
            "gallery": {
                "num_entries": len(self.judge.gallery.features),
                "num_identities": len(self.judge.gallery.identities),
            },
            "rows": {
                name: {
                    "title": result.row.title,
                    "source": result.row.source,
                    "num_pictures": len(result.pictures),
                    "scores": summarise(result.scores)
                    | {key: mean_interval(values) for key, values in result.matches.items()}
                    | result.groups_by_label(),
                }
                for name, result in self.results.items()
            },
            "leads": self.leads(),
            "bound_shares": self.bound_shares(),
            "swap": self.swap,
            "seconds": self.seconds,
        }
