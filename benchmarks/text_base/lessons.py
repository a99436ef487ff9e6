"""What a variant begins with: the stored base, after lessons of its text encoder, which are kept
beside the runs, as variants share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.bases.base_model import BaseModel
from training.runs import save_state
from training.toy.data.library import load_library

from .canvas import CanvasLesson
from .drawing import Base, plain_model
from .local_start import Heads, look_at_canvas
from .questions import draw_questions
from .variants import Variant
from .words import Lesson, teach

LOOKED_AT = 96  # questions whose real composites show what the UNet's features say of places


@dataclass(frozen=True)
class Start:
    """A base to train on, the tera-operations and samples before, the heads that look at a canvas,
    and the lesson that taught it, with its own heads."""

    base: BaseModel
    tera: float
    samples: int = 0
    heads: Heads = field(default_factory=dict)
    lesson: CanvasLesson | None = None


def after_lessons(variant: Variant, base: BaseModel, work: Path, kept: Path) -> Start:
    """``base`` after the variant's lessons, each made once and kept as a file in ``kept``."""
    start = Start(base, 0.0)
    if variant.lesson_steps:
        name = f"words-{variant.lesson_steps}-{variant.lesson_rate:g}"
        start = after_words(variant, start, work, kept / f"{name}.pt")
    if variant.canvas is not None:
        start = after_canvas(variant, start, work, kept / f"{variant.canvas.name}.pt")
    return start


def after_words(variant: Variant, before: Start, work: Path, path: Path) -> Start:
    """``before`` after the words' lesson."""

    def learn(pupil: Base) -> dict[str, Any]:
        lesson = Lesson(load_library(work, "train", "train"), work, pupil)
        return {"tera": before.tera + teach(lesson, variant.lesson_steps, variant.lesson_rate)}

    stored = kept_parts(path, before.base, learn)
    return Start(taught_base(before.base, stored), stored["tera"])


def after_canvas(variant: Variant, before: Start, work: Path, path: Path) -> Start:
    """``before`` after the canvas's lesson, and with heads that look at what it taught."""
    canvas, library = variant.canvas, load_library(work, "train", "train")
    assert canvas is not None

    def learn(pupil: Base) -> dict[str, Any]:
        lesson = CanvasLesson(library, work, pupil, canvas)
        tera = teach(lesson, canvas.steps, canvas.rate)
        heads = look_at_canvas(lesson, draw_questions(library, LOOKED_AT)) if canvas.spread else {}
        told = lesson.heads.state_dict()
        return {"tera": before.tera + tera, "heads": heads, "lesson": told}

    stored = kept_parts(path, before.base, learn)
    base = taught_base(before.base, stored)
    lesson = CanvasLesson(library, work, Base(plain_model(base), base), canvas)
    lesson.heads.load_state_dict(stored["lesson"])
    return Start(base, stored["tera"], heads=stored["heads"], lesson=lesson)


def after_relearning(variant: Variant, before: Start, work: Path, path: Path) -> Start:
    """``before`` after a lesson of the canvas with other pictures; what the lesson before read them
    with stays, as the UNet has learnt to read them so."""
    canvas, library = variant.relearns, load_library(work, "train", "train")
    assert canvas is not None and before.lesson is not None
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


def kept_parts(
    path: Path, base: BaseModel, learn: Callable[[Base], dict[str, Any]]
) -> dict[str, Any]:
    """What ``learn`` tells of a lesson and what it made of the base, from the file if there is
    one."""
    if not path.exists():
        pupil = Base(plain_model(base), base)
        about = learn(pupil)
        save_state(path, {**parts_of(pupil), **about})
    stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return stored


def taught_base(base: BaseModel, stored: dict[str, Any]) -> BaseModel:
    """``base`` with what is kept of a lesson or a training."""
    return replace(base, text=stored["text"], unet=stored["unet"])


def parts_of(pupil: Base) -> dict[str, dict[str, Tensor]]:
    """Text encoder and UNet as the base names them."""
    state = pupil.model.unet.state_dict()
    unet = {name: state[name] for name in pupil.base.unet}
    channels = pupil.base.latent_channels
    unet["conv_in.weight"] = unet["conv_in.weight"][:, :channels].clone()
    return {"text": pupil.model.text_encoder.state_dict(), "unet": unet}
