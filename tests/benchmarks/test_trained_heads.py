"""The report on trained heads: its table, and what its command asks for."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.trained_heads.__main__ import main
from benchmarks.trained_heads.report import TEXT, table
from training.evaluation.scoring import RowScores


def scores(cosine: list[list[float]], ranks: list[list[int]]) -> RowScores:
    zeros = np.zeros_like(np.array(cosine))
    return RowScores(
        rank=np.array(ranks),
        cosine=np.array(cosine),
        unmixed=zeros + 1.0,
        given_rank=zeros,
        nearest_row=zeros,
        is_seen=zeros.astype(bool),
        is_model=zeros.astype(bool),
    )


def test_the_table_pairs_queries_and_leaves_out_what_was_not_made():
    measured = {
        ("one", "ip_adapter"): scores([[0.2], [0.4]], [[0], [3]]),
        ("one", TEXT): scores([[0.1], [0.3]], [[5], [5]]),
        ("two", "ms_diffusion"): scores([[0.2, 0.4], [0.5, 0.5]], [[0, 7], [0, 0]]),
        ("two", TEXT): scores([[0.2, 0.2], [0.4, 0.4]], [[9, 9], [9, 9]]),
    }
    lines = table(measured, 10)
    assert lines[0].startswith("2 queries") and "10 subjects in the gallery" in lines[0]
    cells = {tuple(line.split(" | ")[:2]): line.split(" | ") for line in lines[4:]}
    own = cells["| one subject", "IP-Adapter plus"]
    assert own[2].startswith("0.300") and own[3].startswith("0.500") and own[5] == "-"
    assert own[6] == "0.100 [0.100, 0.100] |"  # each query moved alike: no width
    two = cells["| two subjects", "MS-Diffusion"]
    assert two[3].startswith("0.750") and two[5].startswith("1.000")
    assert len(cells) == 4 and cells["| one subject", "text only"][6] == "- |"


def test_the_report_asks_for_its_folders(capsys):
    with pytest.raises(SystemExit):
        main(["report"])
    assert "expected --pictures and --out" in capsys.readouterr().err
