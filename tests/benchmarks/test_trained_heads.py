"""The report on trained heads: its table, and what its command asks for."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.trained_heads.__main__ import main
from benchmarks.trained_heads.report import BUNDLED, Measured, table
from training.evaluation.metrics import Interval


def scores(cosine: list[float], **others: list[float]) -> dict[str, np.ndarray]:
    values = {"cosine": cosine, "top1": [0.0, 1.0], "top5": [1.0, 1.0], **others}
    return {key: np.array(value) for key, value in values.items()}


def test_the_table_pairs_queries_and_leaves_out_what_was_not_made():
    texts = {
        "one_text_only": scores([0.1, 0.3], box_iou=[0.9, 0.9]),
        "two_text_only": scores([0.2, 0.4], unmixed=[0.5, 0.5]),
    }
    rows = {
        "one_subject": scores([0.2, 0.4], box_iou=[0.25, 0.75]),
        "one_shuffled": scores([0.1, 0.2]),
    }
    swap = {name: Interval(value=0.75, low=0.5, high=1.0) for name in ("per_picture", "both")}
    measured = {
        BUNDLED: Measured(per_query=texts, swap={}),
        "ip_adapter": Measured(per_query=rows, swap=swap),
        "ms_diffusion": Measured(
            per_query={"two_subjects": scores([0.3, 0.5], unmixed=[1, 1])}, swap={}
        ),
    }
    lines = table(measured, 10)
    assert lines[0].startswith("2 queries") and "10 subjects in the gallery" in lines[0]
    cells = {tuple(line.split(" | ")[:2]): line.split(" | ") for line in lines[4:] if line}
    own = cells["| one subject", "IP-Adapter plus"]
    assert own[2].startswith("0.300") and own[3].startswith("0.500") and own[5] == "-"
    assert own[6].startswith("0.500 [0.250")
    assert own[7] == "0.100 [0.100, 0.100] |"  # each query moved alike: no width
    shuffled = cells["| one subject", "the same, another subject's picture"]
    assert shuffled[7].startswith("-0.050")
    assert cells["| two subjects", "MS-Diffusion"][5].startswith("1.000")
    text = cells["| one subject", "text only"]
    assert text[6] == "-" and text[7] == "- |"  # no subject was asked for in the box
    assert cells["| IP-Adapter plus", "0.750 [0.500, 1.000]"][2] == "0.750 [0.500, 1.000] |"


def test_the_report_asks_for_its_folders(capsys):
    with pytest.raises(SystemExit):
        main(["report"])
    assert "expected --pictures and --out" in capsys.readouterr().err
