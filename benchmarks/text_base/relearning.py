"""A canvas learnt again, of other pictures, by a base that has one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from training.toy.data.library import load_library
from training.toy.text.canvas import CanvasLesson
from training.toy.text.drawing import Base, plain_model
from training.toy.text.lessons import Start, kept_parts, taught_base
from training.toy.text.settings import Canvas
from training.toy.text.words import teach


def after_relearning(canvas: Canvas, before: Start, work: Path, path: Path) -> Start:
    """``before`` after a lesson of the canvas with other pictures; what the lesson before read them
    with stays, as the UNet has learnt to read them so."""
    assert before.lesson is not None
    library = load_library(work, "train", "train")
    told = before.lesson.heads.state_dict()

    def lesson_of(pupil: Base) -> CanvasLesson:
        lesson = CanvasLesson(library, work, pupil, canvas)
        lesson.heads.load_state_dict(told)
        lesson.heads.requires_grad_(False)
        return lesson

    def learn(pupil: Base) -> dict[str, Any]:
        return {"tera": before.tera + teach(lesson_of(pupil), canvas.steps, canvas.rate)}

    stored = kept_parts(path, before.base, learn)
    base = taught_base(before.base, stored)
    lesson = lesson_of(Base(plain_model(base), base))
    return replace(before, base=base, tera=stored["tera"], lesson=lesson)
