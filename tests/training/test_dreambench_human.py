"""The human protocol: scores by hand, then end to end with OpenCV's real YuNet decoder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dreambench_parts import command, save_clip
from PIL import Image

from benchmarks.dreambench.__main__ import main
from benchmarks.dreambench.dataset import (
    PROMPTS,
    DreamBenchError,
    cases,
    load_people,
    read_prompts,
)
from benchmarks.dreambench.encoders import ClipEncoder
from benchmarks.dreambench.faces import FaceEncoder, YuNetDetector
from benchmarks.dreambench.scores import score_people

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "woman", "man", "hat", "in", "snow"]
CELL = 64  # of a 640x480 picture: YuNet's stride of 32 in the 320x240 that it sees
FACE = (1.5 * CELL, 0.5 * CELL, 2.5 * CELL, 1.5 * CELL)  # what the tiny YuNet says of cell (2, 1)


class RedFrame:
    """Takes what lies inside a red frame for the face."""

    def box_xyxy(self, picture: Image.Image) -> tuple[int, int, int, int] | None:
        pixels = np.asarray(picture)
        rows, columns = np.nonzero((pixels == (255, 0, 0)).all(-1))
        if not len(rows):
            return None
        return columns.min() + 1, rows.min() + 1, columns.max(), rows.max()


def framed(left: str, right: str, frame: str = "red") -> Image.Image:
    """A face in two colours inside a frame."""
    picture = Image.new("RGB", (60, 50), "gray")
    picture.paste(frame, (9, 9, 31, 31))
    picture.paste(left, (10, 10, 20, 30))
    picture.paste(right, (20, 10, 30, 30))
    return picture


def portrait(color: str, cell: str = "red") -> Image.Image:
    """640x480 with the tiny YuNet's face in cell (2, 1)."""
    picture = Image.new("RGB", (640, 480), color)
    picture.paste(cell, (2 * CELL, CELL, 3 * CELL, 2 * CELL))
    return picture


def save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP at tiny size and an embedder of faces: 2x2 colours, around zero."""
    folder = tmp_path_factory.mktemp("models")
    save_clip(folder / "clip", WORDS)
    embedder = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    torch.jit.script(embedder).save(str(folder / "embedder.pt"))
    (folder / "prompts.txt").write_text("# two\na {} in snow\n\na hat on a {}\n")
    return folder


@pytest.fixture(scope="module")
def yunet(models: Path) -> Path:
    """A network with YuNet's twelve outputs: red of a cell of 32 is the score of a face of 32
    pixels at the cell's corner; green makes it up to e times larger."""
    pytest.importorskip("cv2")
    onnx = pytest.importorskip("onnx")
    nodes, weights, outputs = [], [], []
    for output, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            name = f"{output}_{stride}"
            kernel = np.zeros((width, 3, stride, stride), np.float32)  # of BGR in 0..255
            if stride == 32 and output in ("cls", "obj"):
                kernel[0, 0], kernel[0, 2] = -1, 1
            if output == "bbox":
                kernel[2:, 1] = 1
            kernel /= 255 * stride**2
            shape = np.array([1, -1, width], np.int64)
            weights += [
                onnx.numpy_helper.from_array(kernel, f"{name}_kernel"),
                onnx.numpy_helper.from_array(shape, f"{name}_shape"),
            ]
            make = onnx.helper.make_node
            nodes += [
                make("Conv", ["input", f"{name}_kernel"], [f"{name}_map"], strides=[stride] * 2),
                make("Transpose", [f"{name}_map"], [f"{name}_rows"], perm=[0, 2, 3, 1]),
                make("Reshape", [f"{name}_rows", f"{name}_shape"], [name]),
            ]
            outputs.append(_value(onnx, name, [1, "cells", width]))
    graph = onnx.helper.make_graph(
        nodes, "yunet", [_value(onnx, "input", [1, 3, "height", "width"])], outputs, weights
    )
    opset = onnx.helper.make_opsetid("", 11)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save(model, str(models / "yunet.onnx"))
    return models / "yunet.onnx"


def _value(onnx, name: str, shape: list[int | str]):  # type: ignore[no-untyped-def]
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def test_people_are_read_with_and_without_class_words(tmp_path: Path) -> None:
    for name in ("000001", "anna"):
        save(framed("white", "black"), tmp_path / name / "0.png")
    bench = load_people(tmp_path, None)
    assert {s.class_word for s in bench.values()} == {"person"}
    (tmp_path / "prompts_and_classes.txt").write_text("subject_name,class\nanna,woman\n")
    bench = load_people(tmp_path, None)
    assert [s.class_word for s in bench.values()] == ["woman"]
    all_cases = list(cases(bench, "human", 2))
    assert len(all_cases) == 2 * sum(len(group) for group in PROMPTS.values())
    assert len({case.out for case in all_cases}) == len(all_cases)
    assert all_cases[0].prompt == "a woman wearing round sunglasses"


def test_own_prompts_are_thirty_or_so_in_four_groups() -> None:
    prompts = [prompt for group in PROMPTS.values() for prompt in group]
    assert list(PROMPTS) == ["accessory", "style", "action", "context"]
    assert 28 <= len(set(prompts)) == len(prompts) <= 40
    assert all(prompt.count("{}") == 1 for prompt in prompts)


def test_scores_by_hand(tmp_path: Path, models: Path) -> None:
    """The same face is 1, its negative counts 0, and so does a picture without a face."""
    data, out = tmp_path / "data", tmp_path / "out"
    for name in ("anna", "ben"):
        save(framed("white", "black"), data / name / "0.png")
    all_cases = list(cases(load_people(data, models / "prompts.txt"), "human", 1))
    made = (
        framed("white", "black"), framed("white", "black", frame="green"),
        framed("white", "black"), framed("black", "white"),
    )  # fmt: skip
    for case, picture in zip(all_cases, made, strict=True):
        save(picture, out / case.out)
    faces = FaceEncoder(RedFrame(), models / "embedder.pt")
    clip = ClipEncoder(models / "clip")
    scores, num_found = score_people(all_cases, out, faces, clip, 0)
    assert num_found == 3
    assert scores["ID preservation"].value == pytest.approx(0.5, abs=1e-5)
    paths = [out / case.out for case in all_cases]
    by_hand = (clip.images(paths) * clip.texts([case.prompt for case in all_cases])).sum(-1).mean()
    assert scores["prompt consistency"].value == pytest.approx(float(by_hand), abs=1e-5)
    save(framed("white", "black", frame="green"), data / "ben" / "0.png")
    with pytest.raises(DreamBenchError, match=r"data: expected a face in .*ben"):
        score_people(all_cases, out, faces, clip, 0)


def test_a_folder_of_faceless_pictures(tmp_path: Path, models: Path) -> None:
    save(framed("white", "black", frame="green"), tmp_path / "0.png")
    faces = FaceEncoder(RedFrame(), models / "embedder.pt")
    features, found = faces.faces([tmp_path / "0.png"] * 2)
    assert not found.any() and not features.any() and len(features) == 2


def test_yunet_finds_the_largest_face(yunet: Path) -> None:
    detector = YuNetDetector(yunet)
    assert detector.box_xyxy(Image.new("RGB", (640, 480))) is None
    assert detector.box_xyxy(portrait("black")) == FACE
    two = portrait("black")
    two.paste("yellow", (6 * CELL, 4 * CELL, 7 * CELL, 5 * CELL))
    left, top, right, bottom = detector.box_xyxy(two)
    assert right - left == bottom - top == pytest.approx(CELL * np.e, abs=4)  # blurred edges
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((6 * CELL, 4 * CELL), abs=1)
    corner = Image.new("RGB", (640, 480))
    corner.paste("red", (0, 0, CELL, CELL))
    assert detector.box_xyxy(corner) == (0, 0, CELL // 2, CELL // 2)


def test_jobs_then_scores(
    tmp_path: Path, models: Path, yunet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    for name, color in (("anna", "black"), ("ben", "navy")):
        save(portrait(color), data / name / "0.png")
    (data / "prompts_and_classes.txt").write_text("anna,woman\nben,man\n")
    shared = ("--data", data, "--protocol", "human", "--per-prompt", "1")
    command("jobs", *shared, "--out", tmp_path / "jobs.jsonl")
    assert "own list, not FastComposer's" in capsys.readouterr().out
    jobs = [json.loads(line) for line in (tmp_path / "jobs.jsonl").read_text().splitlines()]
    assert len(jobs) == 2 * sum(len(group) for group in PROMPTS.values())
    assert {entry["subjects"][0]["label"] for entry in jobs} == {"woman", "man"}
    for index, entry in enumerate(jobs):  # every second one without a face
        cell = "red" if index % 2 == 0 else "black"
        save(portrait("black" if "anna" in entry["out"] else "navy", cell), out / entry["out"])
    weights = ("--face-detector", yunet, "--face-embedder", models / "embedder.pt")
    scored = ("score", *shared, "--clip", models / "clip", *weights, "--pictures", out)
    command(*scored, "--out", tmp_path / "s.json")
    report = json.loads((tmp_path / "s.json").read_text())
    assert report["scores"]["ID preservation"]["value"] == pytest.approx(0.5, abs=1e-5)
    assert report["settings"]["faces_found"] == f"{len(jobs) // 2} of {len(jobs)}"
    assert report["settings"]["num_people"] == 2
    printed = capsys.readouterr().out
    assert "| paper | 0.605 | 0.228 |" in printed and "| FastComposer | 0.514 | 0.243 |" in printed
    assert all(f"- {key}: " in printed for key in report["settings"])


def test_four_pictures_a_prompt_are_the_default(tmp_path: Path, models: Path) -> None:
    save(portrait("black"), tmp_path / "anna" / "0.png")
    own = ("--protocol", "human", "--prompts", models / "prompts.txt")
    command("jobs", "--data", tmp_path, *own, "--out", tmp_path / "jobs.jsonl")
    assert len((tmp_path / "jobs.jsonl").read_text().splitlines()) == 2 * 4


@pytest.mark.parametrize(
    "text, got", [("", "no prompt"), ("a {0} here", "a {0} here"), ("a {} {}", "{} {}")]
)
def test_wrong_prompts(tmp_path: Path, text: str, got: str) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(text)
    with pytest.raises(DreamBenchError, match="prompts: expected") as caught:
        read_prompts(path)
    assert got in str(caught.value)
    with pytest.raises(DreamBenchError, match="which is not there"):
        read_prompts(tmp_path / "none.txt")


def test_wrong_data_and_options(tmp_path: Path) -> None:
    with pytest.raises(DreamBenchError, match="one folder per person"):
        load_people(tmp_path, None)
    (tmp_path / "anna").mkdir()
    with pytest.raises(DreamBenchError, match="expected photographs"):
        load_people(tmp_path, None)
    save(portrait("black"), tmp_path / "anna" / "0.png")
    out = ("--data", tmp_path, "--out", tmp_path / "s.json")
    with pytest.raises(DreamBenchError, match="expected --pictures, --clip, --face-detector"):
        command("score", "--protocol", "human", *out)
    with pytest.raises(DreamBenchError, match="prompts: expected none for --protocol single"):
        command("jobs", "--prompts", tmp_path / "p.txt", *out)
    with pytest.raises(DreamBenchError, match="per-prompt: expected at least 1, got 0"):
        command("jobs", "--protocol", "human", "--per-prompt", "0", *out)
    with pytest.raises(SystemExit, match=r"^error: data: expected"):  # no traceback
        main(["jobs", "--data", str(tmp_path), "--out", str(tmp_path / "j.jsonl")])
    assert not (tmp_path / "s.json").exists()


def test_wrong_embedders(tmp_path: Path) -> None:
    with pytest.raises(DreamBenchError, match=r"face-embedder: expected .* not a file"):
        FaceEncoder(RedFrame(), tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no module")
    with pytest.raises(DreamBenchError, match="face-embedder: expected a TorchScript module"):
        FaceEncoder(RedFrame(), tmp_path / "text.pt")
    torch.jit.script(torch.nn.Identity()).save(str(tmp_path / "same.pt"))
    with pytest.raises(DreamBenchError, match=r"2 faces give \(2, 3, 160, 160\)"):
        FaceEncoder(RedFrame(), tmp_path / "same.pt")


def test_wrong_detectors(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    with pytest.raises(DreamBenchError, match=r"face-detector: expected .* not a file"):
        YuNetDetector(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(DreamBenchError, match="cannot run"):
        YuNetDetector(tmp_path / "text.onnx")


def test_missing_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DreamBenchError, match="pip install"):
        YuNetDetector(tmp_path / "yunet.onnx")
