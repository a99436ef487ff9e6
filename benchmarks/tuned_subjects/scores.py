# Shapes: Q queries, I subjects, S seeds of each, F feature width, H side of a picture, K others.
"""What a row's pictures show: the subject, the prompt's scene, and the training photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.evaluation.crops import MARGIN
from training.evaluation.queries import Box
from training.evaluation.scoring import Judge
from training.evaluation.text_match import LinearHead
from training.toy.data.library import Library

from .subjects import TunedSubject, all_queries

MEASURES = ("cosine", "top-1", "scene", "leak")
GREY = 127
NUM_OTHERS, OTHERS_SEED = 24, 7


def without_box(picture: np.ndarray, box_px: Box) -> np.ndarray:
    """The picture (H, H, 3) uint8 with its box, and a margin as of a crop, painted grey."""
    x1, y1, x2, y2 = box_px
    reach = round(MARGIN * max(x2 - x1, y2 - y1))
    outside: np.ndarray = picture.copy()
    outside[max(y1 - reach, 0) : y2 + reach, max(x1 - reach, 0) : x2 + reach] = GREY
    return outside


def leak(features: np.ndarray, own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much nearer pictures are to the training photograph than to others.

    All features are of pictures whose box is grey, the same box in all of them, so that neither
    the subject nor the grey counts: 0 = the photograph is no nearer than any other.

    Args:
        features: (S, F) of generated pictures.
        own: (F,) of the training picture.
        others: (K, F) of photographs of other scenes.

    >>> leak(np.array([[1.0, 0.0]]), np.array([1.0, 0.0]), np.array([[0.6, 0.8], [0.0, 1.0]]))
    array([0.7])
    """
    difference: np.ndarray = features @ own - (features @ others.T).mean(axis=1)
    return difference


def other_photographs(library: Library, subject: TunedSubject) -> np.ndarray:
    """(K, H, H, 3) uint8: photographs of the held-out scenes that the subject does not stand in."""
    rows = [
        row
        for row in library.scene_rows
        if library.scenes[row]["scene"] != subject.background_scene
    ]
    chosen = np.random.default_rng(OTHERS_SEED).permutation(rows)[:NUM_OTHERS]
    return np.stack([np.asarray(library.backgrounds[row]) for row in chosen])


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Scores the pictures of all rows alike; `scene_head` is TinyBench's."""

    judge: Judge
    scene_head: LinearHead

    def score(
        self, pictures: np.ndarray, subjects: Sequence[TunedSubject]
    ) -> Mapping[str, np.ndarray]:
        """Each of `MEASURES` (I, S) of pictures (I * S, H, H, 3) uint8, subject after subject.

        cosine, top-1: of the asked box to the right subject seen from elsewhere, as in TinyBench.
        scene: 1.0 where the whole picture shows the prompt's scene. leak: see `leak`.
        """
        queries, encoder = all_queries(subjects), self.judge.encoder
        found = self.judge.score(self.judge.crop_features(pictures, queries), queries)
        scenes = [query.scene for query in queries]
        shape = (len(subjects), -1)
        leaks = [
            self._leaks(own, subject)
            for own, subject in zip(np.split(pictures, len(subjects)), subjects, strict=True)
        ]
        return {
            "cosine": found.cosine.reshape(shape),
            "top-1": found.found(1).reshape(shape),
            "scene": self.scene_head.matches(encoder.encode(pictures), scenes).reshape(shape),
            "leak": np.stack(leaks),
        }

    def _leaks(self, pictures: np.ndarray, subject: TunedSubject) -> np.ndarray:
        """(S,) of the pictures (S, H, H, 3) of one subject."""
        others = other_photographs(self.judge.library, subject)
        shown = [*pictures, subject.picture[..., :3], *others]
        box_px = subject.queries[0].subjects[0].box_px
        features = self.judge.encoder.encode(np.stack([without_box(p, box_px) for p in shown]))
        own = len(pictures)
        return leak(features[:own], features[own], features[own + 1 :])
