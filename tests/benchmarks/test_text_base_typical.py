"""Typical pictures alone, and a canvas learnt again, of `python -m benchmarks.text_base`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_library import small_library

from benchmarks.text_base import lessons
from benchmarks.text_base.canvas import Canvas, mean_picture
from benchmarks.text_base.compositions import MIXES, library_of, mixed_sample
from benchmarks.text_base.kept_canvas import FIRST as KEPT_FROM
from benchmarks.text_base.kept_canvas import KeptCanvas
from benchmarks.text_base.lessons import Start, after_canvas, after_relearning
from benchmarks.text_base.questions import answered_from, draw_questions
from benchmarks.text_base.start import read_start
from benchmarks.text_base.typical import most_telling, telling_order, typical_library
from benchmarks.text_base.variants import Variant
from benchmarks.text_base.words import KEPT
from training.runs import write_json
from training.toy.data.library import Library

START = Path(__file__).resolve().parents[2] / "weights" / "tiny_base.safetensors"
CANVAS = Canvas(
    cell=12, size=0.5, steps=1, rate=1e-3, spread=0.6, place_weight=0.1, lesson_weight=0.05
)


def many_views() -> Library:
    """The small library with three views of the first subject and of each scene."""
    library = small_library()
    armchair = [library.records[0]] * 3
    return replace(
        library,
        cutouts=np.concatenate([library.cutouts, 255 - library.cutouts[:1], library.cutouts[1:]]),
        records=[*library.records, *armchair[:2]],
        backgrounds=np.concatenate([library.backgrounds, 255 - library.backgrounds] * 2)[:6],
        scenes=library.scenes * 3,
        models=[("armchair", [0, 2, 3])],
        scene_rows=[0, 1, 2, 3, 4, 5],
    )


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


def test_pictures_for_adapters_show_every_cut_out_before_typical_views(tmp_path: Path) -> None:
    library = many_views()
    mix = replace(MIXES["adapter"], views=2)
    shown = library_of(mix, library, tmp_path)
    usual = library_of(replace(mix, all_cutouts=False), library, tmp_path)
    assert shown.scene_rows == usual.scene_rows and len(shown.scene_rows) == 4
    assert shown.models == library.models != usual.models
    assert library_of(MIXES["few"], library, tmp_path) is library


def test_a_question_is_answered_with_what_a_library_has() -> None:
    library = many_views()
    small = replace(library, scene_rows=[4, 5], models=[("armchair", [3])])
    for question in draw_questions(library, 6):
        answered = answered_from(small, question)
        wanted = {"mall": 4, "forest": 5}[question.scene], {"armchair": 3, "lemon": 1}
        assert (answered.background_row, answered.row) == (wanted[0], wanted[1][question.label])
        assert answered == replace(
            question, background_row=answered.background_row, row=answered.row
        )


def test_typical_pictures_show_scenes_as_they_are(tmp_path: Path) -> None:
    """Neither mirrored nor, where no subject is asked for, changed."""
    library, mix = small_library(), replace(MIXES["typical"], counts=(1.0,))
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
    looks = np.random.default_rng(0).normal(size=(4, KEPT)).astype(np.float32)
    (tmp_path / "evaluation").mkdir()
    np.save(tmp_path / "evaluation" / "looks.npy", looks)
    write_json(
        tmp_path / "evaluation" / "typical.json",
        {"scenes": {"mall": [0], "forest": [1]}, "labels": {"armchair": [2], "lemon": [1]}},
    )
    return library


def test_a_canvas_may_leave_the_heads_as_they_are(library: Library, tmp_path: Path) -> None:
    """The UNet stays; the loss of a step has the lesson's errors alone."""
    canvas = replace(CANVAS, spread=0.0, place_weight=0.0, lesson_weight=0.05)
    variant = Variant(name="unlooked", title="unlooked", canvas=canvas)
    stored = read_start(START)
    begun = after_canvas(variant, Start(stored, 0.0), tmp_path, tmp_path / "canvas.pt")
    assert begun.heads == {} and begun.lesson is not None
    for name, tensor in stored.unet.items():
        assert torch.equal(tensor, begun.base.unet[name]), name
    model = begun.lesson.base.model
    kept = KeptCanvas(begun.lesson, begun.heads, model, captions=2)
    captions = begun.lesson.batch(KEPT_FROM)
    assert len(captions.labels) == 2
    errors = begun.lesson.errors(begun.lesson.read(model.text_encoder, captions), captions)
    assert kept.loss(0).item() == pytest.approx(0.05 * torch.stack(errors).sum().item(), rel=1e-4)


def test_a_canvas_learnt_again_is_read_as_before(library: Library, tmp_path: Path) -> None:
    again = replace(CANVAS, typical=True)
    variant = Variant(name="again", title="again", canvas=CANVAS, relearns=again)
    before = after_canvas(variant, Start(read_start(START), 0.0), tmp_path, tmp_path / "first.pt")
    after = after_relearning(variant, before, tmp_path, tmp_path / "again.pt")
    assert before.lesson is not None and after.lesson is not None
    assert after.heads == before.heads and after.tera > before.tera > 0
    told, told_before = (start.lesson.heads.state_dict() for start in (after, before))
    assert all(torch.equal(told[name], told_before[name]) for name in told)
    assert not any(parameter.requires_grad for parameter in after.lesson.heads.parameters())
    for name, tensor in before.base.unet.items():
        assert torch.equal(tensor, after.base.unet[name]), name
    assert any(
        not torch.equal(tensor, after.base.text[name]) for name, tensor in before.base.text.items()
    )
    assert not torch.equal(after.lesson.tiles["armchair"], before.lesson.tiles["armchair"])
    shown = np.load(tmp_path / "evaluation" / "label_pictures-12-0.5-typical.npy")
    assert np.array_equal(shown[0], mean_picture(library, [[2]], again))
    stored = after_relearning(variant, before, tmp_path, tmp_path / "again.pt")
    assert stored.tera == after.tera
    assert all(
        torch.equal(tensor, after.base.text[name]) for name, tensor in stored.base.text.items()
    )
