"""What the text stage's training begins with: a base after lessons of its text encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...bases.base_model import BaseModel
from ...runs import save_state
from ..data.library import load_library
from .canvas import CanvasLesson
from .drawing import Base, plain_model
from .local_heads import Heads, look_at_canvas
from .questions import draw_question
from .settings import Canvas, WordsLesson
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


def after_lessons(
    base: BaseModel, words: WordsLesson | None, canvas: Canvas | None, work: Path, kept: Path
) -> Start:
    """``base`` after the lessons, each made once and kept as a file in ``kept``."""
    start = Start(base, 0.0)
    if words is not None:
        start = after_words(words, start, work, kept / f"{words.name}.pt")
    if canvas is not None:
        start = after_canvas(canvas, start, work, kept / f"{canvas.name}.pt")
    return start


def after_words(words: WordsLesson, before: Start, work: Path, path: Path) -> Start:
    """``before`` after the words' lesson."""

    def learn(pupil: Base) -> dict[str, Any]:
        lesson = Lesson(load_library(work, "train", "train"), work, pupil)
        return {"tera": before.tera + teach(lesson, words.steps, words.rate)}

    stored = kept_parts(path, before.base, learn)
    return Start(taught_base(before.base, stored), stored["tera"])


def after_canvas(canvas: Canvas, before: Start, work: Path, path: Path) -> Start:
    """``before`` after the canvas's lesson, and with heads that look at what it taught."""
    library = load_library(work, "train", "train")

    def learn(pupil: Base) -> dict[str, Any]:
        lesson = CanvasLesson(library, work, pupil, canvas)
        tera = teach(lesson, canvas.steps, canvas.rate)
        questions = [draw_question(library, index) for index in range(LOOKED_AT)]
        heads = look_at_canvas(lesson, questions) if canvas.spread else {}
        told = lesson.heads.state_dict()
        return {"tera": before.tera + tera, "heads": heads, "lesson": told}

    stored = kept_parts(path, before.base, learn)
    base = taught_base(before.base, stored)
    lesson = CanvasLesson(library, work, Base(plain_model(base), base), canvas)
    lesson.heads.load_state_dict(stored["lesson"])
    return Start(base, stored["tera"], heads=stored["heads"], lesson=lesson)


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
