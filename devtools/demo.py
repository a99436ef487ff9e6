"""The demo: two held-out subjects in the boxes asked for, then with the two references swapped."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .console import DevError, last_lines
from .generation import Generator
from .jobs import GenerationSettings, Job, SubjectSpec

LEFT_BOX = (0.04, 0.22, 0.48, 0.88)
RIGHT_BOX = (0.52, 0.22, 0.96, 0.88)
SUBJECT_LIST = "subjects.json"


def read_subjects(folder: Path) -> list[tuple[str, Path]]:
    """Label and picture of every held-out subject that the repository ships in assets/subjects."""
    listing = folder / SUBJECT_LIST
    if not listing.is_file():
        raise DevError(f"{listing}: expected the list of the demo's subjects, got no such file.")
    entries = json.loads(listing.read_text(encoding="utf-8"))
    return [(entry["label"], folder / entry["file"]) for entry in entries]


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
    jobs = []
    for value in range(seed, seed + count):
        for order, name in ((pair, "result"), (pair[::-1], "swapped")):
            subjects = tuple(
                SubjectSpec(image=image, label=label, box_xyxy=box)
                for (label, image), box in zip(order, (LEFT_BOX, RIGHT_BOX), strict=True)
            )
            prompt = f"a {order[0][0]} and a {order[1][0]}"
            out_path = out / f"{name}_seed{value}.png"
            settings = GenerationSettings()
            jobs.append(
                Job(prompt=prompt, subjects=subjects, seed=value, out=out_path, settings=settings)
            )
    return jobs


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
