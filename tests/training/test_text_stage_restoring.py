"""Real pictures with noise, taken away by a base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_library import small_library

from training.evaluation.pictures import through_autoencoder
from training.toy.text.drawing import Base, plain_model
from training.toy.text.questions import draw_question
from training.toy.text.restoring import restored_latents, typical_answers
from training.toy.text.start import read_start

START = Path(__file__).resolve().parents[2] / "weights" / "tiny_base.safetensors"


def test_the_more_noise_the_less_is_left_of_a_picture(tmp_path: Path) -> None:
    start, library = read_start(START), small_library()
    base = Base(plain_model(start), start)
    questions = [draw_question(library, index) for index in range(2)]
    pictures = typical_answers(library, tmp_path, questions, views=1, size=0.5)
    assert pictures.shape == (2, 128, 128, 3) and pictures.dtype == np.uint8

    def restored(since: int) -> np.ndarray:
        some = questions, pictures, since, 4, 1.0
        return base.decode(restored_latents(base, *some))

    clean = restored(0)
    assert np.abs(clean.astype(int) - through_autoencoder(base.vae, pictures)).max() <= 1
    errors = [np.abs(restored(since).astype(int) - clean).mean() for since in (249, 749, 999)]
    assert 0 < errors[0] < errors[1] < errors[2]
    drawn = base.draw(questions, steps=4, guidance=1.0)
    assert np.abs(drawn.astype(int) - clean).mean() > errors[0]
    with pytest.raises(ValueError, match="a timestep that 4 sampling steps reach, got 9"):
        restored(9)
