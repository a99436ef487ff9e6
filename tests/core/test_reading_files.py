"""Files are read into memory, judged by their headers, and saved under names that are free."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_subject_file import make_file

from subject_diffusion_core import checkpoint
from subject_diffusion_core.errors import CheckpointError
from subject_diffusion_core.files import safetensors_file, subject_file
from subject_diffusion_core.files.header import read_header
from subject_diffusion_core.files.safetensors_file import (
    DTYPES,
    read_safetensors,
    read_tensors,
    write_safetensors,
)

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights" / "tiny_adapter.safetensors"


def test_every_type_is_read_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    numbers = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 20
    tensors = {"none": torch.zeros(0, 3), "one": torch.tensor(3.5)}
    for name, dtype in DTYPES.items():
        if not name.startswith("U") or name == "U8":  # save_file knows the others in newer versions
            tensors[name] = (numbers.abs() if dtype == torch.uint8 else numbers).to(dtype)
    save_file(tensors, path)
    got, wanted = read_safetensors(path)[0], load_file(path)
    assert list(got) == list(wanted) and len(got) > 8
    for name, tensor in wanted.items():
        assert got[name].dtype == tensor.dtype and got[name].shape == tensor.shape
        assert got[name].flatten().view(torch.uint8).equal(tensor.flatten().view(torch.uint8))


@pytest.mark.parametrize("kind", ["cut to nothing", "written over"])
def test_a_loaded_file_may_be_written_over(tmp_path: Path, kind: str) -> None:
    """In a process of its own, which the system would end if the file were mapped."""
    path = tmp_path / "a.safetensors"
    shutil.copy(WEIGHTS, path)
    code = """
import sys
from subject_diffusion_core import checkpoint
path = sys.argv[1]
adapter = checkpoint.load(path)
before = {name: tensor.clone() for name, tensor in adapter.tensors().items()}
if sys.argv[2] == "cut to nothing":
    open(path, "wb").close()
else:
    content = open(path, "rb").read()
    with open(path, "r+b") as file:
        file.seek(8 + int.from_bytes(content[:8], "little"))
        file.write(bytes(len(content) - file.tell()))
assert all(tensor.equal(before[name]) for name, tensor in adapter.tensors().items())
print("same")
"""
    command = [sys.executable, "-c", code, str(path), kind]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "same"), done.stderr[-500:]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(4)}, path)
    header = read_header(path)
    save_file({"a": torch.zeros(40)}, path)
    with pytest.raises(CheckpointError, match="it was changed while it was read"):
        read_tensors(header)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"expected an intact \.safetensors file"):
        read_tensors(header)


def file_of(entries: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def f32(shape: list[int], *offsets: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": list(offsets)}


BAD_HEADERS = {
    "too many tensors": (
        file_of({str(number): f32([0], 0, 0) for number in range(20_001)}),
        r"20001 tensors, more than any model's",
    ),
    "two in one place": (
        file_of({"a": f32([2], 0, 8), "b": f32([2], 0, 8)}, bytes(8)),
        r"tensors that overlap or leave gaps",
    ),
    "a gap": (
        file_of({"a": f32([1], 0, 4), "b": f32([1], 8, 12)}, bytes(12)),
        r"tensors that overlap or leave gaps",
    ),
    "more numbers than bytes": (
        file_of({"a": f32([10**9], 0, 4)}, bytes(4)),
        r"a tensor that takes more or fewer bytes than its numbers do",
    ),
    "a header of 10 MB of text": (
        file_of({"a": {"dtype": "x" * 10_000_000, "shape": [1], "data_offsets": [4, 0]}}),
        r"a header that cannot be read",
    ),
    "numbers of another type": (
        file_of({"a": {"dtype": "F3", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        r"numbers of the type F3",
    ),
}


@pytest.mark.parametrize("kind", BAD_HEADERS)
def test_headers_that_are_refused(tmp_path: Path, kind: str) -> None:
    content, sentence = BAD_HEADERS[kind]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=sentence) as error:
        read_safetensors(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 600


def rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Change tensors and description of a file of subjects."""
    tensors, metadata = read_safetensors(path)
    description = json.loads(metadata[subject_file.METADATA_KEY])
    change(tensors, description)
    write_safetensors(path, tensors, {subject_file.METADATA_KEY: json.dumps(description)})


def settings(**values: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda tensors, description: description["subjects"][1].update(values)


def tensors(**values: torch.Tensor) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    named = {name.replace("_", ".", 1).lstrip("n"): value for name, value in values.items()}
    return lambda tensors, description: tensors.update(named)


OUTSIDE: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], None], str]] = {
    "NaN strength": (
        settings(strength=float("nan")),
        r"subject 2's strength: expected a finite number, got nan\. Encode and save",
    ),
    "negative strength": (settings(strength=-5), r"subject 2's strength: .* from 0 to 16, got -5"),
    "infinite strength": (settings(strength=float("inf")), r"subject 2's strength: .* finite"),
    "huge number": (settings(strength=10**400), r"strength: .* more than 30 digits"),
    "words": (settings(start_percent="x" * 10**6), r"start_percent: .* got 'x+\.\.\.'"),
    "end": (settings(end_percent=1.5), r"subject 2's end_percent: expected a number from 0 to 1"),
    "no label": (settings(label=" "), r"subject 2's label: expected words, got ' '"),
    "long label": (settings(label="x" * 10**6), r"label: expected at most 1000 characters"),
    "box": (settings(box={"x1": float("nan")}), r"subject 2's box: expected four numbers by name"),
    "thumbnail": (
        tensors(n0_thumbnail=torch.zeros(8000, 9, 4, dtype=torch.uint8)),
        r"size of '0\.thumbnail': expected a whole number from 1 to 512, got 8000",
    ),
    "views": (
        tensors(n0_image_embeds=torch.zeros(2000, 5), n0_patch_embeds=torch.zeros(2000, 4, 3)),
        r"size of '0\.image_embeds': expected a whole number from 1 to 64, got 2000",
    ),
    "subjects": (
        lambda tensors, description: description.update(subjects=description["subjects"] * 50),
        r"number of subjects: expected a whole number from 1 to 64, got 100",
    ),
}


@pytest.mark.parametrize("kind", OUTSIDE)
def test_subjects_outside_the_limits(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused by the header: nothing is read."""
    change, sentence = OUTSIDE[kind]
    path = tmp_path / "subjects.safetensors"
    subject_file.save(path, make_file())
    rewrite(path, change)
    monkeypatch.setattr(safetensors_file, "_read", lambda header: pytest.fail("it was read"))
    with pytest.raises(CheckpointError, match=sentence) as error:
        subject_file.load(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_subjects": 100_000}, r"num_subjects: expected a whole number from 1 to 64, got 10"),
        ({"num_subjects": "2"}, r"num_subjects: expected a whole number of 1 or more, got '2'"),
        ({"patch_dim": 10**12}, r"patch_dim: expected a whole number from 1 to 65536"),
        ({"temperature": float("nan")}, r"temperature: expected a finite number, got nan"),
        ({"placeholder": "x" * 10**6}, r"placeholder: expected a word, got 'x+\.\.\."),
        ({"box_coordinates": "{" * 1000}, r"box_coordinates: expected True or False, got '\{\{"),
        ({"placeholder_token_id": -1}, r"placeholder_token_id: expected a whole number from 0"),
    ],
)
def test_adapter_configurations_outside_the_limits(
    tmp_path: Path, changes: dict[str, Any], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "adapter.safetensors"
    content, metadata = read_safetensors(WEIGHTS)
    config = {**json.loads(metadata[checkpoint.METADATA_KEY]), **changes}
    write_safetensors(path, content, {checkpoint.METADATA_KEY: json.dumps(config)})
    monkeypatch.setattr(safetensors_file, "_read", lambda header: pytest.fail("it was read"))
    with pytest.raises(CheckpointError, match=sentence) as error:
        checkpoint.load(path)
    assert len(str(error.value)) < 600


def test_the_tensors_of_another_configuration_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "adapter.safetensors"
    content, metadata = read_safetensors(WEIGHTS)
    write_safetensors(path, {**content, "more": torch.zeros(1)}, metadata)
    monkeypatch.setattr(safetensors_file, "_read", lambda header: pytest.fail("it was read"))
    with pytest.raises(CheckpointError, match="got a file with unknown 'more'"):
        checkpoint.load(path)


@pytest.mark.parametrize("has_links", [True, False], ids=["links", "no links"])
def test_a_name_is_taken_by_one(
    tmp_path: Path, has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes first; the others are told, and nothing is left behind."""
    if not has_links:
        monkeypatch.setattr(os, "link", refuse_links)
    path = tmp_path / "taken.safetensors"
    outcomes: list[int] = []
    start = threading.Barrier(8)

    def save(number: int) -> None:
        start.wait()
        try:
            write_safetensors(path, {"a": torch.full((9,), float(number))}, {}, exclusive=True)
        except FileExistsError:
            return
        outcomes.append(number)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = outcomes
    assert read_safetensors(path)[0]["a"].tolist() == [winner] * 9
    assert list(tmp_path.iterdir()) == [path]


def refuse_links(*_: object) -> None:
    raise PermissionError("no links on this disk")
