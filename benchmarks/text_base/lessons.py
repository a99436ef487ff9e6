"""What a variant begins with: the stored base, after lessons of its text encoder, which are kept
beside the runs, as variants share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from training.bases.base_model import BaseModel
from training.runs import save_state
from training.toy.data.library import Library, load_library

from .canvas import CanvasLesson
from .drawing import Base, plain_model
from .local_start import Heads, look_at_canvas
from .questions import draw_questions
from .variants import Variant
from .words import Lesson, teach

LOOKED_AT = 96  # questions whose real composites show what the UNet's features say of places


@dataclass(frozen=True)
class Start:
    """A base to train on, the tera-operations before, and the heads that look at a canvas."""

    base: BaseModel
    tera: float
    heads: Heads = field(default_factory=dict)


def after_lessons(variant: Variant, base: BaseModel, work: Path, kept: Path) -> Start:
    """``base`` after the variant's lessons, each made once and kept as a file in ``kept``."""
    start = Start(base, 0.0)
    if variant.lesson_steps:
        name = f"words-{variant.lesson_steps}-{variant.lesson_rate:g}"
        start = kept_start(kept / f"{name}.pt", start, work, lambda pupil, library: (teach(
            Lesson(library, work, pupil), variant.lesson_steps, variant.lesson_rate
        ), {}))  # fmt: skip
    if variant.canvas_steps:
        name = f"canvas-{variant.canvas_steps}-{variant.canvas_rate:g}-{variant.canvas_spread:g}"
        start = kept_start(kept / f"{name}.pt", start, work, lambda pupil, library: learn_canvas(
            CanvasLesson(library, work, pupil), variant
        ))  # fmt: skip
    return start


def learn_canvas(lesson: CanvasLesson, variant: Variant) -> tuple[float, Heads]:
    """The lesson, then heads that look at what it taught; tera-operations of the former, and which
    heads."""
    tera = teach(lesson, variant.canvas_steps, variant.canvas_rate)
    questions = draw_questions(lesson.library, LOOKED_AT)
    return tera, look_at_canvas(lesson, questions, variant.canvas_spread)


def kept_start(
    path: Path, before: Start, work: Path, change: Callable[[Base, Library], tuple[float, Heads]]
) -> Start:
    """``before`` after ``change``, from the file if there is one."""
    if not path.exists():
        pupil = Base(plain_model(before.base), before.base)
        tera, heads = change(pupil, load_library(work, "train", "train"))
        save_state(path, {**parts_of(pupil), "tera": before.tera + tera, "heads": heads})
    stored = torch.load(path, map_location="cpu", weights_only=True)
    base = replace(before.base, text=stored["text"], unet=stored["unet"])
    return Start(base, stored["tera"], heads=stored["heads"])


def parts_of(pupil: Base) -> dict[str, dict[str, Tensor]]:
    """Text encoder and UNet as the base names them."""
    state = pupil.model.unet.state_dict()
    unet = {name: state[name] for name in pupil.base.unet}
    channels = pupil.base.latent_channels
    unet["conv_in.weight"] = unet["conv_in.weight"][:, :channels].clone()
    return {"text": pupil.model.text_encoder.state_dict(), "unet": unet}
