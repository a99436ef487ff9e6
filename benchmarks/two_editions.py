# Shapes: Q queries, N subjects of a query.
"""TinyBench of two editions of the small model's weights in one run, question by question.

    python -m benchmarks.two_editions --work .dev/tiny --first FOLDER --second weights --out FOLDER
    python -m benchmarks.two_editions ... --rows one_real_vae two_real_vae --limit 1000

Both are asked the same questions with the same noise, so a difference's interval is that of pairs,
and smaller than those of the two rows apart. `--limit` may be larger than TinyBench's own number:
the first questions stay the same. Pictures, each edition's own report and the table of both
(two_editions.md) are written to `--out` after every row; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from training.evaluation.metrics import mean_interval, swap_shares
from training.evaluation.report import markdown_table
from training.evaluation.rows import DEFAULT_COUNT, PRECISIONS, ROWS, Row, SamplingSettings
from training.evaluation.tinybench import TinyBench
from training.runs import write_text

from .comfyui import ROOT

MEASURES = {
    "top1": "top-1",
    "cosine": "cosine",
    "unmixed": "unmixed",
    "box_iou": "box IoU",
    "group": "label group",
    "group_seen": "of labels seen",
    "scene": "scene",
    "swap": "nearer to its own design",
}


def scores_of(bench: TinyBench, row: Row) -> dict[str, np.ndarray]:
    """Each measure as (Q,). Of the groups of seen labels there are only the queries that have such
    a label; of swapped designs, whose two pictures count as one, half of the queries."""
    result = bench.results[row.name]
    scores = result.per_query()
    if result.groups is not None:
        scores["group_seen"] = of_seen(result.groups, result.scores.is_seen)
    if row.kind == "swap":
        cosines = bench.judge.twin_cosines(result.features[:, 0], result.queries)
        scores["swap"] = swap_shares(*cosines)["per_picture"]
    return {name: values for name, values in scores.items() if name in MEASURES}


def of_seen(groups: np.ndarray, is_seen: np.ndarray) -> np.ndarray:
    """Mean over the subjects (Q, N) with a seen label, of the queries that have one.

    >>> groups, is_seen = np.array([[1, 0], [1, 1], [0, 1]]), np.array([[1, 1], [0, 0], [1, 0]]) > 0
    >>> of_seen(groups, is_seen).tolist()
    [0.5, 0.0]
    """
    counts = is_seen.sum(axis=1)
    sums = np.where(is_seen, groups, 0).sum(axis=1)
    means: np.ndarray = sums[counts > 0] / counts[counts > 0]
    return means


def table(first: TinyBench, second: TinyBench, rows: Sequence[Row]) -> list[str]:
    """Markdown lines, a measure a line: both editions and their difference."""
    lines = []
    for row in rows:
        before, after = scores_of(first, row), scores_of(second, row)
        for name, title in MEASURES.items():
            if name in before:
                cells = [row.title, title, str(len(before[name]))]
                cells += map(_hundredths, (before[name], after[name]))
                lines.append([*cells, _hundredths(after[name] - before[name], signed=True)])
    return markdown_table(["measure", "n", "first", "second", "difference"], lines)


def _hundredths(values: np.ndarray, *, signed: bool = False) -> str:
    interval = mean_interval(values)
    if interval is None:
        return "-"
    value = f"{100 * interval.value:{'+' if signed else ''}.1f}"
    return f"{value} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def compare(
    first: TinyBench, second: TinyBench, rows: Sequence[Row], out: Path, *, matches: bool = True
) -> str:
    """Measure all rows with both, with ``matches`` boxes and texts, too; returns the table, which
    is also written after every row."""
    text = ""
    for done, row in enumerate(rows, start=1):
        for bench in (first, second):
            bench.measure(row)
            if matches:
                bench.measure_matches(row)
        text = "\n".join(
            [
                f"First: weights {first.maker.weights_sha256[:12]}, second: "
                f"{second.maker.weights_sha256[:12]}. In hundredths, with 95 % bootstrap "
                "intervals; differences are paired by question.",
                "",
                *table(first, second, rows[:done]),
            ]
        )
        write_text(out / "two_editions.md", text + "\n")
    return text


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.two_editions",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--work", type=Path, default=ROOT / ".dev" / "tiny", help="data folder")
    parser.add_argument("--first", type=Path, required=True, help="both weight files of one")
    parser.add_argument("--second", type=Path, default=ROOT / "weights", help="of the other")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--rows", nargs="+", choices=[row.name for row in ROWS], help="default all", metavar="ROW"
    )
    parser.add_argument("--limit", type=int, default=DEFAULT_COUNT, help="pictures of a row")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument(
        "--no-matches", action="store_true", help="identity only: no boxes, label groups and scenes"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = SamplingSettings(precision=options.precision)
    folders = [options.out / "first", options.out / "second"]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    first = TinyBench(options.work, options.first, folders[0], settings, options.limit)
    if not options.no_matches:
        _ = first.segmenter, first.heads  # one for both
    second = first.for_weights(options.second, folders[1])
    rows = [row for row in ROWS if not options.rows or row.name in options.rows]
    print(compare(first, second, rows, options.out, matches=not options.no_matches))


if __name__ == "__main__":
    main(sys.argv[1:])
