# Shapes: I subjects, S seeds of each, H side of a picture.
"""Makes and scores rows, each as far as it is not there yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from training.evaluation.metric_encoder import load_metric_encoder
from training.evaluation.pictures import PictureMaker, cached_pictures
from training.evaluation.queries import Query
from training.evaluation.scoring import Judge
from training.evaluation.text_match import load_heads
from training.runs import save_picture
from training.toy.data.library import load_library

from ..comfyui import ROOT
from ..made_picture import made_picture
from ..small_gallery import gallery_of
from ..structure.in_process import InProcessHost
from .report import REAL, Scores, sheet
from .rows import LORA_LEARNING_RATE, LORA_RANK, SCALES, Row, Sizes, picture_graph
from .scores import Scorer
from .subjects import TunedSubject, all_queries, draw_subjects
from .tuned_files import TunedFiles

BATCH = 4
POOL = 24  # subjects that are looked up, with one other of each, whatever the number of pictures


class Bench:
    """Held-out subjects, and what is measured of their pictures.

    Args:
        work: holds the small model's world.
        out: files, pictures and sheets are kept there.
        skipped: how many subjects are left to another action.
        num_guided: how many subjects guided rows have.
    """

    def __init__(
        self,
        host: InProcessHost,
        work: Path,
        out: Path,
        skipped: int,
        count: int,
        num_seeds: int,
        num_guided: int,
        sizes: Sizes,
    ) -> None:
        library, encoder = load_library(work, "heldout", "heldout"), load_metric_encoder()
        self.subjects = draw_subjects(library, count, num_seeds, skipped)
        pool = draw_subjects(library, max(POOL, count), 1, skipped)
        self.gallery = gallery_of(library, all_queries(pool), encoder, out)
        judge = Judge(gallery=self.gallery, library=library, encoder=encoder)
        self._scorer = Scorer(judge=judge, scene_head=load_heads(work, encoder)["scene"])
        self.weights = PictureMaker(library, ROOT / "weights", SCALES).weights_sha256
        self._files = TunedFiles(host, out / "tuned", self.weights, sizes)
        self._host, self._out, self._sizes = host, out, sizes
        self._num_seeds, self._num_guided = num_seeds, num_guided

    def measure(
        self, rows: Sequence[Row], write: Callable[[dict[str, Scores]], None]
    ) -> dict[str, Scores]:
        """Scores (I, S) of all rows; `write` gets those there are after each, and the sheet is
        drawn again."""
        real = np.repeat(
            np.stack([subject.picture[..., :3] for subject in self.subjects]),
            self._num_seeds,
            axis=0,
        )
        scores: dict[str, Scores] = {REAL: self._scorer.score(real, self.subjects)}
        made: dict[str, np.ndarray] = {}
        for row in rows:
            subjects = self.subjects[: self._num_guided] if row.is_guided else self.subjects
            made[row.name] = self._pictures(row, subjects)
            scores[row.name] = self._scorer.score(made[row.name], subjects)
            save_picture(self._out / "sheet.png", sheet(self.subjects, made, self._num_seeds))
            write(scores)
            self._host.forget()
        return scores

    def _pictures(self, row: Row, subjects: Sequence[TunedSubject]) -> np.ndarray:
        """(I * S, H, H, 3) uint8."""
        queries = all_queries(subjects)

        def make(batch: Sequence[Query]) -> np.ndarray:
            return np.stack([self._make(row, query) for query in batch])

        name = row.name.replace("+", "and").replace(" ", "_")
        path = self._out / "pictures" / f"{name}-{self._fingerprint(row)}.npy"
        return cached_pictures(path, queries, make, BATCH)[: len(queries)]

    def _make(self, row: Row, query: Query) -> np.ndarray:
        subject = self.subjects[query.index]
        files, picture = self._files.files_of(row, subject), self._files.picture_of(subject)
        return made_picture(self._host, picture_graph(row, query, picture, files, self._sizes))

    def _fingerprint(self, row: Row) -> str:
        """Names what a row's pictures depend on, besides how many subjects there are."""
        subject = self.subjects[0]
        picture = self._files.picture_of(subject)
        graphs = [
            picture_graph(row, query, picture, ["file"], self._sizes) for query in subject.queries
        ]
        tuned: list[Any] = [LORA_RANK, LORA_LEARNING_RATE] if row.has_weights else []
        if row.tuning is not None:
            tuned.append(asdict(row.tuning))
        parts = [graphs, tuned, asdict(self._sizes), self.weights]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
