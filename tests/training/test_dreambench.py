"""DreamBench end to end with encoders of DINO's and CLIP's classes at tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dreambench_parts import command, picture, save_clip, save_dino

from benchmarks.dreambench.dataset import (
    PAIRS,
    DreamBenchError,
    cases,
    load_dreambench,
)
from benchmarks.dreambench.encoders import DinoEncoder
from benchmarks.dreambench.scores import image_alignment

TEXT_FILE = """Classes

subject_name,class
can,can
candle,candle
cat2,cat
dog3,dog

Prompts

Object Prompts
prompt_list = [
'a {0} {1} on a table'.format(unique_token, class_token),
'a red {0} {1}'.format(unique_token, class_token),
]

Live Subject Prompts
prompt_list = [
'a {0} {1} asleep'.format(unique_token, class_token),
]
"""
COLORS = {"can": "red", "candle": "green", "cat2": "blue", "dog3": "yellow"}
WORDS = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "and", "can", "candle"),
    *("cat", "dog", "on", "table", "red", "asleep"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dreambooth")
    (folder / "prompts_and_classes.txt").write_text(TEXT_FILE)
    for name, color in COLORS.items():
        for index in range(2):
            picture(color, folder / name / f"{index:02d}.jpg")
    return folder


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``dino`` and ``clip`` with random weights."""
    folder = tmp_path_factory.mktemp("encoders")
    save_dino(folder / "dino")
    save_clip(folder / "clip", WORDS)
    return folder


def test_the_data_set_is_read(data: Path) -> None:
    subjects = load_dreambench(data)
    assert subjects["can"].prompts == ("a {} on a table", "a red {}")
    assert subjects["cat2"].prompts == subjects["dog3"].prompts == ("a {} asleep",)
    assert subjects["cat2"].class_word == "cat"
    assert [path.name for path in subjects["can"].pictures] == ["00.jpg", "01.jpg"]


def test_cases_follow_the_protocol(data: Path) -> None:
    bench = load_dreambench(data)
    single = list(cases(bench, "single", 6))
    assert len(single) == (2 * 2 + 2 * 1) * 6
    assert len({case.out for case in single}) == len(single)
    pairs = list(cases(bench, "pairs", 1))
    assert {case.out.split("/")[0] for case in pairs} == {"can-candle", "cat2-dog3"}
    assert pairs[0].prompt == "a can and a candle on a table"
    request = pairs[0].job(reference=1)
    assert [s["label"] for s in request["subjects"]] == ["can", "candle"]
    assert request["subjects"][0]["image"].endswith("01.jpg")
    assert len(PAIRS) == 30 and sum(pair[0][:3] in ("cat", "dog") for pair in PAIRS) == 9


def test_alignment_by_hand() -> None:
    generated = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    first, second = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[0.0, 1.0]])
    np.testing.assert_allclose(image_alignment(generated, [first]), [0.8, 0.4])
    np.testing.assert_allclose(image_alignment(generated, [first, second]), [0.4, 0.7])


@pytest.mark.parametrize("protocol", ["single", "pairs"])
def test_jobs_then_scores(
    data: Path, encoders: Path, tmp_path: Path, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = ("--data", data, "--protocol", protocol, "--per-prompt", "1")
    command("jobs", *shared, "--out", tmp_path / "jobs.jsonl")
    jobs = [json.loads(line) for line in (tmp_path / "jobs.jsonl").read_text().splitlines()]
    models = ("--dino", encoders / "dino", "--clip", encoders / "clip")
    scored = ("score", *shared, *models, "--pictures", tmp_path, "--out", tmp_path / "s.json")
    with pytest.raises(DreamBenchError, match="pictures: expected"):
        command(*scored)
    for entry in jobs:  # perfect pictures of one subject: its own colour
        name = entry["out"].split("/")[0].split("-")[0]
        picture(COLORS[name], tmp_path / entry["out"])
    command(*scored)
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["settings"]["num_pictures"] == len(jobs)
    if protocol == "single":
        assert report["scores"]["DINO"]["value"] > 0.99
        assert report["scores"]["CLIP-I"]["value"] > 0.99
    assert -1 <= report["scores"]["CLIP-T"]["value"] <= 1
    assert "| paper |" in capsys.readouterr().out


def test_missing_data_and_encoders(tmp_path: Path, data: Path) -> None:
    with pytest.raises(DreamBenchError, match=r"prompts_and_classes\.txt"):
        load_dreambench(tmp_path)
    with pytest.raises(DreamBenchError, match="dino: expected a folder with DINO"):
        DinoEncoder(tmp_path)
