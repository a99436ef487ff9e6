"""The demo: two held-out subjects in the boxes asked for, then with the two references swapped."""

from __future__ import annotations

import json
import random
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .console import DevError, last_lines
from .generation import Generator
from .jobs import GenerationSettings, Job, SubjectSpec

LEFT_BOX = (0.04, 0.34, 0.48, 0.78)
RIGHT_BOX = (0.52, 0.34, 0.96, 0.78)
SCENES = ("in a photo studio", "on a misty meadow", "on a plain background")


def label_of(picture: Path) -> str:
    """The noun a sample picture's file name stands for.

    >>> label_of(Path("teddy-bear.png")), label_of(Path("guitar-2.png"))
    ('teddy bear', 'guitar')
    """
    return re.sub(r"-\d+$", "", picture.stem).replace("-", " ")


def read_subjects(folder: Path) -> list[tuple[str, Path]]:
    """Label and picture of every held-out subject that the repository ships."""
    pictures = sorted(folder.glob("*.png"))
    if not pictures:
        raise DevError(f"{folder}: expected pictures of the demo's subjects (*.png), got none.")
    return [(label_of(picture), picture) for picture in pictures]


def pick_two(subjects: Sequence[tuple[str, Path]], seed: int) -> list[tuple[str, Path]]:
    """Two subjects with different labels, drawn by the seed."""
    generator = random.Random(seed)
    first = generator.choice(subjects)
    others = [subject for subject in subjects if subject[0] != first[0]]
    if not others:
        raise DevError(
            "assets/subjects: expected subjects with two different labels, got one label only."
        )
    return [first, generator.choice(others)]


def demo_jobs(pair: Sequence[tuple[str, Path]], seed: int, out: Path, count: int) -> list[Job]:
    """For each seed one image, and one with the references swapped under the same seed."""
    scene = random.Random(seed).choice(SCENES)
    jobs = []
    for value in range(seed, seed + count):
        for order, name in ((pair, "result"), (pair[::-1], "swapped")):
            subjects = tuple(
                SubjectSpec(image=image, label=label, box_xyxy=box)
                for (label, image), box in zip(order, (LEFT_BOX, RIGHT_BOX), strict=True)
            )
            job = Job(
                prompt=f"{_with_article(order[0][0])} and {_with_article(order[1][0])} {scene}",
                subjects=subjects,
                seed=value,
                out=out / f"{name}_seed{value}.png",
                settings=GenerationSettings(),
            )
            jobs.append(job)
    return jobs


def _with_article(label: str) -> str:
    return f"{'an' if label[0] in 'aeiou' else 'a'} {label}"


def run_demo(generator: Generator, jobs: Sequence[Job], python: Path, sheet: Path) -> list[Path]:
    """Generate the jobs and draw them on a contact sheet; the images' paths."""
    images = [generator.generate(job) for job in jobs]
    draw_contact_sheet(jobs, images, python, sheet)
    return images


def draw_contact_sheet(
    jobs: Sequence[Job], images: Sequence[Path], python: Path, sheet: Path
) -> None:
    """Have `contact_sheet.py` draw the sheet with a Python that has Pillow."""
    rows = [
        {
            "title": f'{image.stem}: "{job.prompt}"',
            "image": str(image),
            "subjects": [
                {"image": str(subject.image), "label": subject.label, "box": subject.box_xyxy}
                for subject in job.subjects
            ],
        }
        for job, image in zip(jobs, images, strict=True)
    ]
    spec = sheet.with_suffix(".json.part")
    spec.write_text(json.dumps({"title": "Subject-Diffusion", "rows": rows}), encoding="utf-8")
    script = Path(__file__).with_name("contact_sheet.py")
    try:
        drawn = subprocess.run(
            [str(python), str(script), str(spec), str(sheet)], capture_output=True, text=True
        )
    finally:
        spec.unlink()
    if drawn.returncode != 0:
        raise DevError(f"The contact sheet could not be drawn:\n{last_lines(drawn.stderr, 5)}")
