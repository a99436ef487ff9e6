"""Two editions' weights under the same questions."""

from __future__ import annotations

import doctest
import shutil
from pathlib import Path

import numpy as np
import pytest
from bench_work import write_work
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from benchmarks import two_editions
from benchmarks.comfyui import ROOT
from training.evaluation.rows import ROWS, SamplingSettings
from training.evaluation.tinybench import TinyBench
from training.toy.files import ADAPTER_NAME, BASE_NAME

COUNT = 4


def with_a_blind_decoder(folder: Path) -> Path:
    """The bundled weights, whose decoder draws the same from every latent."""
    folder.mkdir()
    shutil.copy(ROOT / "weights" / ADAPTER_NAME, folder)
    with safe_open(ROOT / "weights" / BASE_NAME, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(ROOT / "weights" / BASE_NAME)
    for name in ("vae.synthesis.weight.scale", "vae.fine.2.weight.scale"):
        tensors[name] = tensors[name] * 0
    save_file(tensors, folder / BASE_NAME, metadata)
    return folder


def cells_of(text: str) -> dict[tuple[str, str], list[str]]:
    """Number, both editions and their difference, by row's title and measure."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {(title, measure): rest for title, measure, *rest in lines[1:]}


def test_editions_are_compared_question_by_question(tmp_path: Path) -> None:
    work = write_work(tmp_path)
    blind = with_a_blind_decoder(tmp_path / "blind")
    words = ["--work", str(work), "--out", str(tmp_path / "out"), "--limit", str(COUNT)]
    rows = ["--rows", "two_real", "two_real_vae", "--no-matches"]
    two_editions.main([*words, *rows, "--first", str(blind)])
    cells = cells_of((tmp_path / "out" / "two_editions.md").read_text())
    # real composites know of no weights
    assert cells["two: real composites", "cosine"][0] == str(COUNT)
    assert cells["two: real composites", "cosine"][3] == "+0.0 [0.0, 0.0]"
    through = cells["two: real through the VAE", "cosine"]
    first, second, difference = (float(cell.split(" [")[0]) for cell in through[1:])
    assert second > first + 5 and difference == pytest.approx(second - first, abs=0.11)
    low = float(through[3].split("[")[1].split(",")[0])
    assert low > 0, "a decoder that shows nothing is told from the bundled one"
    assert (tmp_path / "out" / "second" / "tinybench.json").exists()


def test_swapped_designs_count_by_pairs(tmp_path: Path) -> None:
    bench = TinyBench(
        write_work(tmp_path), ROOT / "weights", tmp_path, SamplingSettings(steps=1), COUNT
    )
    row = next(row for row in ROWS if row.kind == "swap")
    bench.measure(row)
    values = two_editions.scores_of(bench, row)["swap"]
    assert values.shape == (COUNT // 2,)
    assert values.mean() == pytest.approx(bench.swap["per_picture"].value)
    assert set(np.unique(values)) <= {0.0, 0.5, 1.0}


def test_the_examples_of_its_docstrings_hold() -> None:
    outcome = doctest.testmod(two_editions)
    assert outcome.attempted and not outcome.failed
