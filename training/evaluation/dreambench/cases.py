"""What DreamBench asks for: every prompt, subject and seed, as jobs for ``dev.py generate``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .dataset import PAIRS, DreamBench, DreamSubject

Protocol = Literal["single", "pairs", "human"]
# FastComposer makes four pictures of a person and prompt.
IMAGES_PER_PROMPT = {"single": 6, "pairs": 6, "human": 4}
# The paper does not state its boxes: one subject fills most of the picture, two share it.
BOXES = {1: ((0.2, 0.2, 0.8, 0.8),), 2: ((0.05, 0.25, 0.48, 0.85), (0.52, 0.25, 0.95, 0.85))}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture to generate: ``out`` is its file below the folder of pictures."""

    prompt: str
    subjects: tuple[DreamSubject, ...]
    seed: int
    out: str


def cases(bench: DreamBench, protocol: Protocol, per_prompt: int) -> Iterator[Case]:
    """All pictures of a protocol: "single" and "human" every subject, "pairs" the 30 of table 8."""
    if protocol == "pairs":
        groups: Sequence[tuple[str, ...]] = [p for p in PAIRS if set(p) <= set(bench.subjects)]
    else:
        groups = [(name,) for name in bench.subjects]
    for names in groups:
        subjects = tuple(bench.subjects[name] for name in names)
        phrase = " and a ".join(subject.class_word for subject in subjects)
        for index, template in enumerate(bench.prompts_of(subjects[0])):
            for seed in range(per_prompt):
                yield Case(
                    prompt=template.format(phrase),
                    subjects=subjects,
                    seed=seed,
                    out=f"{'-'.join(names)}/{index:02d}-{seed}.png",
                )


def reference_picture(subject: DreamSubject, reference: int) -> Path:
    """The photograph that the generator is given."""
    return subject.pictures[reference % len(subject.pictures)]


def job(case: Case, reference: int) -> dict[str, Any]:
    """The case as ``dev.py generate --jobs`` takes it, with photograph ``reference`` of each."""
    boxes = BOXES[len(case.subjects)]
    return {
        "prompt": case.prompt,
        "subjects": [
            {
                "image": str(reference_picture(subject, reference).resolve()),
                "label": subject.class_word,
                "box": list(box),
            }
            for subject, box in zip(case.subjects, boxes, strict=True)
        ],
        "seed": case.seed,
        "out": case.out,
    }


def write_jobs(all_cases: Sequence[Case], path: Path, reference: int) -> None:
    """One JSON object a line."""
    lines = [json.dumps(job(case, reference)) for case in all_cases]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
