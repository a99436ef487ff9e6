"""The one- and two-subject rows of TinyBench for a variant's weights, kept once measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ...runs import write_json
from ..rows import ROWS
from ..tinybench import TinyBench

ROW_NAMES = ("one_subject", "two_subjects")
MEASURED_ROWS = tuple(row for row in ROWS if row.name in ROW_NAMES)
SCORES_NAME = "scores.json"


def measured_rows(bench: TinyBench) -> dict[str, dict[str, np.ndarray]]:
    """Row, score -> (Q,) of the bench's weights; rows measured before are read from its folder."""
    path = bench.out / SCORES_NAME
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for row in MEASURED_ROWS:
        fingerprint = bench.maker.fingerprint(row, bench.queries[row.kind])
        if stored.get(row.name, {}).get("fingerprint") == fingerprint:
            continue
        bench.measure(row)
        bench.measure_matches(row)
        values = bench.results[row.name].per_query()
        stored[row.name] = {
            "fingerprint": fingerprint,
            "values": {name: column.tolist() for name, column in values.items()},
        }
        write_json(path, stored)
    return {
        name: {score: np.array(column) for score, column in stored[name]["values"].items()}
        for name in ROW_NAMES
    }


def is_measured(out: Path, variant: str) -> bool:
    """Whether a variant has scores, with these queries or with others."""
    return (bench_folder(out, variant) / SCORES_NAME).exists()


def bench_folder(out: Path, variant: str) -> Path:
    """Where a variant's pictures, contact sheets and scores are."""
    return out / variant / "bench"
