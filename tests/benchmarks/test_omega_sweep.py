"""The report on self-subject-attention: its graphs, its resume, its table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from one_query import QUERY

from benchmarks.omega_sweep.report import difference, write_report
from benchmarks.omega_sweep.rows import ADAPTED, OMEGAS, TEXT, all_rows, picture_graph
from training.evaluation.scoring import RowScores

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "assets" / "subjects" / "crab.png"


@pytest.mark.parametrize("row", all_rows(), ids=lambda row: row.name)
def test_graphs_are_whole(row):
    """Every link leads to a node that is there, and the row's parts act in front of the sampler."""
    graph = picture_graph(row, QUERY, [PICTURE])
    for node in graph.values():
        for value in node["inputs"].values():
            assert not isinstance(value, list) or value[0] in graph
    kinds = [node["class_type"] for node in graph.values()]
    assert ("SubjectDiffusionApply" in kinds) is row.adapter
    assert kinds.count("SubjectDiffusionSelfSubjectAttention") == (
        0 if row.seeing is None else 1 + row.adapter
    )
    guider = graph["guider"]["inputs"]
    assert (guider["model"] == ["seeing", 0]) is (row.seeing is not None)
    if row.seeing is not None:
        assert {**graph["seeing"]["inputs"], **row.seeing} == graph["seeing"]["inputs"]
        branches = [v[0] for k, v in guider.items() if k in ("positive", "image_only", "negative")]
        assert all(name.startswith("seeing") for name in branches)


def test_rows_have_their_controls_before_them():
    seen = []
    for row in all_rows():
        assert row.control is None or row.control in seen
        seen.append(row.name)
    assert len(set(seen)) == len(seen)
    for omega in OMEGAS:
        assert {f"{TEXT} + omega {omega:g}", f"{ADAPTED} + omega {omega:g}"} <= set(seen)


def scores(cosine: list[float], ranks: list[int]) -> RowScores:
    column, zeros = np.array(cosine)[:, None], np.zeros((len(cosine), 1))
    return RowScores(
        rank=np.array(ranks)[:, None],
        cosine=column,
        unmixed=zeros,
        given_rank=zeros,
        nearest_row=zeros,
        is_seen=zeros.astype(bool),
        is_model=zeros.astype(bool),
    )


def test_the_table_pairs_queries(tmp_path):
    measured = {
        TEXT: scores([0.1, 0.3], [5, 5]),
        f"{TEXT} + omega 3": scores([0.2, 0.4], [0, 5]),
    }
    write_report(tmp_path, measured, 10, "a" * 64)
    text = (tmp_path / "self_subject_attention.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("| text + omega 3 |"))
    # each query moved by .1, so the paired interval has no width
    assert "+0.100 [+0.100, +0.100]" in line
    assert "0.500" in line and "top-1 among 10 subjects" in text.replace("\n", " ")
    assert f"| {ADAPTED}" not in text
    assert difference(np.array([0.5, 0.1]), np.array([0.2, 0.2])).value == pytest.approx(0.1)
