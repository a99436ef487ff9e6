"""The text stage's typical pictures, and the canvas of typical cut-outs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_library import many_views, small_library, write_looks

from training.toy.data.library import Library
from training.toy.text import lessons
from training.toy.text.compositions import mixed_sample
from training.toy.text.kept_canvas import FIRST as KEPT_FROM
from training.toy.text.kept_canvas import KeptCanvas
from training.toy.text.lessons import Start, after_canvas
from training.toy.text.questions import answered_from, draw_question
from training.toy.text.settings import TYPICAL, Canvas
from training.toy.text.start import read_start
from training.toy.text.typical import most_telling, telling_order, typical_library

START = Path(__file__).resolve().parents[2] / "weights" / "tiny_base.safetensors"
CPU = torch.device("cpu")


def test_what_lies_furthest_from_all_others_tells_a_name_best() -> None:
    features = np.array([[0.0, 1], [1, 0], [3, 0], [0, 4], [2, 0]])
    order = telling_order(features, ["b", "a", "a", "b", "a"], [10, 11, 12, 13, 14])
    assert order == {"b": [13, 10], "a": [12, 14, 11]}


def test_a_typical_library_has_some_views_of_a_scene_and_one_cut_out_of_a_label(
    tmp_path: Path,
) -> None:
    library = many_views()
    best = most_telling(library, tmp_path)
    assert sorted(best["scenes"]["mall"]) == [0, 2, 4]
    assert sorted(best["scenes"]["forest"]) == [1, 3, 5]
    assert {label: len(rows) for label, rows in best["labels"].items()} == {
        "armchair": 1, "lemon": 1
    }  # fmt: skip
    small = typical_library(library, tmp_path, 2)
    assert small.scene_rows == sorted(best["scenes"]["mall"][:2] + best["scenes"]["forest"][:2])
    assert small.models == [("armchair", best["labels"]["armchair"])]
    assert small.emoji == [("lemon", [1])]


def test_a_question_is_answered_with_what_a_library_has() -> None:
    library = many_views()
    small = replace(library, scene_rows=[4, 5], models=[("armchair", [3])])
    for question in (draw_question(library, index) for index in range(6)):
        answered = answered_from(small, question)
        wanted = {"mall": 4, "forest": 5}[question.scene], {"armchair": 3, "lemon": 1}
        assert (answered.background_row, answered.row) == (wanted[0], wanted[1][question.label])
        assert answered == replace(
            question, background_row=answered.background_row, row=answered.row
        )


def test_typical_pictures_show_scenes_as_they_are(tmp_path: Path) -> None:
    """Neither mirrored nor, where no subject is asked for, changed."""
    library, mix = small_library(), replace(TYPICAL, counts=(1.0,))
    pictures = [mixed_sample(library, mix, index)[0].image for index in range(8)]
    assert all(any(np.array_equal(image, own) for own in library.backgrounds) for image in pictures)
    mirrored = replace(mix, mirrored=True)
    pictures = [mixed_sample(library, mirrored, index)[0].image for index in range(8)]
    assert any(
        np.array_equal(image[:, ::-1], own) for image in pictures for own in library.backgrounds
    )


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """What lessons in ``tmp_path`` are about."""
    library = many_views()
    monkeypatch.setattr(lessons, "load_library", lambda *_: library)
    write_looks(tmp_path)
    return library


def test_a_canvas_may_leave_the_heads_as_they_are(library: Library, tmp_path: Path) -> None:
    """The UNet stays; the loss of a step has the lesson's errors alone."""
    canvas = Canvas(steps=1, spread=0.0, place_weight=0.0)
    stored = read_start(START)
    begun = after_canvas(canvas, Start(stored, 0.0), tmp_path, tmp_path / "canvas.pt")
    assert begun.heads == {} and begun.lesson is not None
    for name, tensor in stored.unet.items():
        assert torch.equal(tensor, begun.base.unet[name]), name
    model = begun.lesson.base.model
    kept = KeptCanvas(begun.lesson, begun.heads, model, 2, CPU)
    captions = begun.lesson.batch(KEPT_FROM)
    assert len(captions.labels) == 2
    errors = begun.lesson.errors(begun.lesson.read(model.text_encoder, captions), captions)
    assert kept.loss(0).item() == pytest.approx(0.05 * torch.stack(errors).sum().item(), rel=1e-4)
