"""What an autoencoder does to real pictures of subjects that training does not know.

# Shapes: Q queries, H picture side (128).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation

from subject_diffusion_core.tiny.block_autoencoder import BLOCK_SIZE, BlockAutoencoder
from training.evaluation.gallery import build_gallery
from training.evaluation.metric_encoder import MetricEncoder
from training.evaluation.pictures import composite_with, through_autoencoder
from training.evaluation.queries import Query, draw_queries
from training.evaluation.scoring import Judge
from training.toy.data.library import Library

KINDS = ("one", "two")
BAND = 3  # pixels outside a subject's mask


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Real composites (Q, H, H, 3) uint8 of TinyBench's queries, and the union of their subjects'
    masks (Q, H, H) bool."""

    queries: Sequence[Query]
    pictures: np.ndarray
    masks: np.ndarray


def real_questions(library: Library, kind: str, count: int) -> Questions:
    """TinyBench's first ``count`` queries of a kind, as its rows of real composites show them."""
    queries = draw_queries(library, kind, count)
    made = [composite_of(library, query) for query in queries]
    pictures, masks = (np.stack(part) for part in zip(*made, strict=True))
    return Questions(queries=queries, pictures=pictures, masks=masks)


def composite_of(library: Library, query: Query) -> tuple[np.ndarray, np.ndarray]:
    """TinyBench's real composite, and its subjects' masks together."""
    background = np.asarray(library.backgrounds[query.background_row])
    made = composite_with(library, query, background)
    return made.image, np.asarray(made.masks.any(0))


def psnr(real: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """(Q,) in dB."""
    error = ((real.astype(np.float64) - shown) ** 2).mean((1, 2, 3))
    return np.asarray(10 * np.log10(255**2 / error))


def grid(pictures: np.ndarray) -> np.ndarray:
    """(Q,) how much larger steps between neighbouring pixels are at the blocks' borders than
    inside of blocks, in per cent; real pictures have about 0."""
    grey = pictures.astype(np.float64).mean(3)
    ratios = []
    for picture in (grey, grey.transpose(0, 2, 1)):
        steps = np.abs(np.diff(picture, axis=2)).mean(1)
        border = np.arange(steps.shape[1]) % BLOCK_SIZE == BLOCK_SIZE - 1
        ratios.append(steps[:, border].mean(1) / steps[:, ~border].mean(1))
    return np.asarray(100 * (np.mean(ratios, axis=0) - 1))


def fringe(real: np.ndarray, shown: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(Q,) root mean squared error around the subjects, in 255ths."""
    bands = np.stack([binary_dilation(mask, iterations=BAND) & ~mask for mask in masks])
    error = ((real.astype(np.float64) - shown) ** 2).mean(3)
    return np.asarray(np.sqrt((error * bands).sum((1, 2)) / bands.sum((1, 2)).clip(min=1)))


class Bench:
    """Real composites of one and of two held-out subjects, and who judges them.

    Args:
        library: of held-out identities and scenes. encoder: TinyBench's.
        kept: folder of TinyBench's gallery. count: queries of each kind.
    """

    def __init__(self, library: Library, encoder: MetricEncoder, kept: Path, count: int) -> None:
        gallery = build_gallery(library, encoder, kept)
        self.judge = Judge(gallery=gallery, library=library, encoder=encoder)
        self.questions = {kind: real_questions(library, kind, count) for kind in KINDS}

    def scores(self, shown: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """(Q,) by name, of pictures (Q, H, H, 3) by kind: recognised at first (share of a query's
        subjects) for every kind, and what the pictures of one subject are like."""
        real, one = self.questions["one"], shown["one"]
        found = {f"{kind}_found": self.identity(kind, shown[kind])["found"] for kind in KINDS}
        return {
            **found,
            "psnr": psnr(real.pictures, one),
            "grid": grid(one),
            "fringe": fringe(real.pictures, one, real.masks),
        }

    def identity(self, kind: str, shown: np.ndarray) -> dict[str, np.ndarray]:
        """(Q,) by name, of pictures (Q, H, H, 3) of the first Q queries: share of their subjects
        that are recognised, and the mean cosine."""
        queries = self.questions[kind].queries[: len(shown)]
        scores = self.judge.score(self.judge.crop_features(shown, queries), queries)
        return {"found": scores.found(1), "cosine": scores.cosine.mean(axis=1)}

    def real(self) -> dict[str, np.ndarray]:
        """The real pictures by kind."""
        return {kind: of.pictures for kind, of in self.questions.items()}

    def through(self, autoencoder: BlockAutoencoder) -> dict[str, np.ndarray]:
        """The real pictures by kind, encoded and decoded."""
        return {kind: through_autoencoder(autoencoder, of) for kind, of in self.real().items()}
