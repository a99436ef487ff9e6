"""How self-subject-attention acts on the small model's pictures, weight by weight.

`python -m benchmarks.omega_sweep --work FOLDER --out FOLDER` makes TinyBench's queries of one
subject through the real nodes, inside ComfyUI: from text alone and with the adapter, each without
and with Self-Subject Attention at several weights, and other settings of it at one weight. It is a
report, written anew after every row; nothing is chosen by it. The same command goes on where it
stopped. The folder of `--work` holds the held-out pictures that `python -m training tiny` makes.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from training.evaluation.metric_encoder import load_metric_encoder
from training.evaluation.pictures import PictureMaker, cached_pictures
from training.evaluation.queries import Query, draw_queries
from training.evaluation.scoring import Judge, RowScores
from training.toy.data.library import Library, load_library

from ..comfyui import ROOT
from ..made_picture import input_folder, made_picture
from ..small_gallery import gallery_of
from ..structure.in_process import InProcessHost, in_process_host
from .report import write_report
from .rows import SETTINGS, SweepRow, all_rows, picture_graph

BATCH = 4
POOL = 48  # queries whose subjects are looked up, whatever the number of pictures


class NodePictures:
    """Makes pictures through ComfyUI, one graph each."""

    def __init__(self, host: InProcessHost, library: Library) -> None:
        self._host, self._library, self._input = host, library, input_folder()

    def make(self, row: SweepRow, queries: Sequence[Query]) -> np.ndarray:
        """(Q, H, H, 3) uint8."""
        return np.stack([self._make(row, query) for query in queries])

    def _make(self, row: SweepRow, query: Query) -> np.ndarray:
        references = []
        for subject in query.subjects:
            path = self._input / f"cutout{subject.reference_row}.png"
            if not path.exists():
                cutout = np.asarray(self._library.cutouts[subject.reference_row])
                Image.fromarray(cutout, "RGBA").save(path)
            references.append(path)
        return made_picture(self._host, picture_graph(row, query, references))


def fingerprint(row: SweepRow, queries: Sequence[Query], weights: str) -> str:
    """Names what a row's pictures depend on."""
    parts = [row.adapter, row.seeing, asdict(SETTINGS), [asdict(q) for q in queries[:1]], weights]
    return hashlib.sha256(json.dumps(parts, default=dict).encode()).hexdigest()[:12]


def measure(options: argparse.Namespace, host: InProcessHost) -> None:
    """Every row's pictures and scores; the report grows with them."""
    library = load_library(options.work, "heldout", "heldout")
    pool = draw_queries(library, "one", max(POOL, options.count))
    queries, encoder = pool[: options.count], load_metric_encoder()
    gallery = gallery_of(library, pool, encoder, options.out)
    judge = Judge(gallery=gallery, library=library, encoder=encoder)
    weights = PictureMaker(library, ROOT / "weights", SETTINGS).weights_sha256
    maker = NodePictures(host, library)
    scores: dict[str, RowScores] = {}
    for row in all_rows():
        name = f"{row.name.replace(' ', '_')}-{fingerprint(row, queries, weights)}"
        pictures = cached_pictures(
            options.out / "pictures" / f"{name}.npy",
            queries,
            functools.partial(maker.make, row),
            BATCH,
        )[: len(queries)]
        scores[row.name] = judge.score(judge.crop_features(pictures, queries), queries)
        write_report(options.out, scores, len(gallery.identities), weights)
        host.forget()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.omega_sweep", description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / ".dev" / "tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24, help="pictures of a row")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, in_process_host(Path(folder)) as host:
        measure(options, host)
    print((options.out / "self_subject_attention.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main(sys.argv[1:])
