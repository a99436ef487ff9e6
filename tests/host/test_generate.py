"""Headless generation with the weights of this repository in the real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from devtools.api_client import PromptError
from devtools.console import Progress
from devtools.demo import LEFT_BOX, RIGHT_BOX, draw_contact_sheet, pick_two, read_subjects
from devtools.generation import Generator
from devtools.jobs import GenerationSettings, Job, SubjectSpec
from devtools.server import ComfyServer

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "weights"
SETTINGS = GenerationSettings(steps=2)


@pytest.fixture(scope="module")
def generator(server: ComfyServer) -> Iterator[Generator]:
    with Generator(server, Progress()) as connected:
        yield connected


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Two sample subjects side by side."""
    pair = pick_two(read_subjects(ROOT / "assets" / "subjects"), seed=0)
    subjects = tuple(
        SubjectSpec(image=image, label=label, box_xyxy=box)
        for (label, image), box in zip(pair, (LEFT_BOX, RIGHT_BOX), strict=True)
    )
    prompt = f"a {pair[0][0]} and a {pair[1][0]}"
    return Job(prompt=prompt, subjects=subjects, seed=1, out=tmp_path / "a.png", settings=SETTINGS)


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"), dtype=np.float32)


def generate(generator: Generator, job: Job, name: str) -> np.ndarray:
    return pixels(generator.generate(replace(job, out=job.out.with_name(name))))


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first - second).mean())


def test_each_input_changes_the_picture(generator: Generator, job: Job) -> None:
    picture = generate(generator, job, "picture.png")
    assert picture.shape == (128, 128, 3)
    first, second = job.subjects
    moved = replace(first, box_xyxy=(0.04, 0.04, 0.48, 0.48))
    swapped = (replace(first, image=second.image), replace(second, image=first.image))
    changed = {
        "seed": replace(job, seed=2),
        "swapped": replace(job, subjects=swapped),
        "box": replace(job, subjects=(moved, second)),
        "strength": replace(job, subjects=(replace(first, strength=0.2), second)),
        "steps": replace(job, settings=replace(SETTINGS, steps=3)),
        "text": replace(job, settings=replace(SETTINGS, text_guidance_scale=5.0)),
        "image": replace(job, settings=replace(SETTINGS, image_guidance_scale=4.0)),
        "base": replace(job, settings=replace(SETTINGS, adapter="none")),
    }
    for name, other in changed.items():
        assert difference(picture, generate(generator, other, f"{name}.png")) > 0, name
    assert list(job.out.parent.glob("*.part")) == []


def test_size_and_mask_file(generator: Generator, job: Job, tmp_path: Path) -> None:
    first = job.subjects[0]
    size = Image.open(first.image).size
    mask = tmp_path / "mask.png"
    half = np.zeros((size[1], size[0]), dtype=np.uint8)
    half[:, : size[0] // 2] = 255
    Image.fromarray(half).save(mask)
    wide = replace(job, settings=replace(SETTINGS, width=192, height=64))
    whole = generate(generator, wide, "whole.png")
    assert whole.shape == (64, 192, 3)
    masked = replace(wide, subjects=(replace(first, mask=mask), job.subjects[1]))
    assert difference(whole, generate(generator, masked, "masked.png")) > 0


def test_an_adapter_file_is_the_adapter(generator: Generator, job: Job) -> None:
    own = str(WEIGHTS / "tiny_adapter.safetensors")
    from_file = replace(job, settings=replace(SETTINGS, adapter=own))
    picture = generate(generator, job, "own.png")
    assert difference(picture, generate(generator, from_file, "file.png")) == 0


def test_a_mask_of_another_size_fails_alone(generator: Generator, job: Job, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.new("L", (96, 48), 255).save(mask)
    bad = replace(
        job,
        subjects=(replace(job.subjects[0], mask=mask), job.subjects[1]),
        out=tmp_path / "bad.png",
    )
    good = replace(job, out=tmp_path / "good.png")
    failed = generator.generate_all([bad, good])
    assert [failure.name for failure in failed] == [str(bad.out)]
    assert "mask" in failed[0].reason
    assert "\n" not in failed[0].reason
    assert good.out.is_file()
    assert not bad.out.exists()
    with pytest.raises(PromptError):
        generator.generate(bad)


def test_a_contact_sheet_shows_everything(job: Job, tmp_path: Path) -> None:
    result = tmp_path / "result.png"
    Image.new("RGB", (128, 64), "#00ff00").save(result)
    sheet = tmp_path / "contact_sheet.png"
    draw_contact_sheet([job, job], [result, result], Path(sys.executable), sheet)
    drawn = pixels(sheet)
    assert drawn.shape[1] > 4 * 256
    green = (drawn == (0, 255, 0)).all(axis=-1).mean()
    assert green > 4 * 128 * 240 / drawn[..., 0].size  # two rows with two views of the result each
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contact_sheet.png", "result.png"]


def run_dev(arguments: Sequence[str], comfyui: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COMFYUI_PATH": str(comfyui), "COMFYUI_PYTHON": sys.executable}
    command = [sys.executable, str(ROOT / "dev.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_file_of_jobs_from_the_command_line(
    comfyui_folder: Path, job: Job, tmp_path: Path
) -> None:
    subjects = [
        {"image": str(spec.image), "label": spec.label, "box": spec.box_xyxy}
        for spec in job.subjects
    ]
    lines = [
        {"prompt": job.prompt, "subjects": subjects, "seed": 1, "steps": 2, "out": "one.png"},
        {"prompt": job.prompt, "subjects": [subjects[0] | {"label": ""}], "out": "two.png"},
        {"prompt": job.prompt, "subjects": subjects[:1], "seed": 3, "steps": 2, "out": "sub"},
    ]
    file = tmp_path / "jobs.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    done = run_dev(["generate", "--jobs", str(file), "--out", str(tmp_path)], comfyui_folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 of 3 images made" in done.stdout
    assert "failed: line 2 of jobs.jsonl: label: expected a noun" in done.stdout
    made = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert made == ["one.png", "sub/00003_seed3.png"]
