"""A canvas learnt again, what is read from states, and the mix for adapters, of
`python -m benchmarks.text_base`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_library import many_views, write_looks

from benchmarks.text_base import relearning
from benchmarks.text_base.mixes import MIXES
from benchmarks.text_base.reading import FITTED, TESTED, explained
from benchmarks.text_base.relearning import after_relearning
from training.toy.data.library import Library
from training.toy.text import lessons
from training.toy.text.canvas import mean_picture
from training.toy.text.compositions import library_of
from training.toy.text.lessons import Start, after_canvas
from training.toy.text.settings import Canvas
from training.toy.text.start import read_start
from training.toy.text.words import BATCH, KEPT

START = Path(__file__).resolve().parents[2] / "weights" / "tiny_base.safetensors"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """What lessons in ``tmp_path`` are about."""
    library = many_views()
    for module in (lessons, relearning):
        monkeypatch.setattr(module, "load_library", lambda *_: library)
    write_looks(tmp_path)
    return library


def test_pictures_for_adapters_show_every_cut_out_before_typical_views(tmp_path: Path) -> None:
    library = many_views()
    mix = replace(MIXES["adapter"], views=2)
    shown = library_of(mix, library, tmp_path)
    usual = library_of(replace(mix, all_cutouts=False), library, tmp_path)
    assert shown.scene_rows == usual.scene_rows and len(shown.scene_rows) == 4
    assert shown.models == library.models != usual.models
    assert library_of(MIXES["few"], library, tmp_path) is library


def test_a_canvas_learnt_again_is_read_as_before(library: Library, tmp_path: Path) -> None:
    first, again = Canvas(steps=1, typical=False), Canvas(steps=1)
    before = after_canvas(first, Start(read_start(START), 0.0), tmp_path, tmp_path / "first.pt")
    after = after_relearning(again, before, tmp_path, tmp_path / "again.pt")
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
    stored = after_relearning(again, before, tmp_path, tmp_path / "again.pt")
    assert stored.tera == after.tera
    assert all(
        torch.equal(tensor, after.base.text[name]) for name, tensor in stored.base.text.items()
    )


def test_what_states_say_of_looks_is_read_and_what_they_do_not_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(BATCH, 20, generator=generator) for _ in range(FITTED + TESTED)]
    weight = torch.randn(20, KEPT, generator=generator)
    noise = [torch.randn(BATCH, KEPT, generator=generator) for _ in states]
    assert explained([(s, s @ weight) for s in states]) > 0.99
    assert abs(explained(list(zip(states, noise, strict=True)))) < 0.05
