"""From a row's pictures to its scores: crop every asked box, look it up, average.

# Shapes: Q queries, N subjects of a query, F feature width, K identities, G gallery entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..toy.data.library import Library
from .crops import box_crop
from .gallery import Gallery, view_vectors
from .metric_encoder import INPUT_SIDE, MetricEncoder
from .metrics import Interval, look_up, mean_interval
from .queries import Query
from .rows import ORDINALS


@dataclass(frozen=True, kw_only=True)
class RowScores:
    """What was found in every asked box; all arrays are (Q, N).

    Attributes:
        rank, cosine: of the right identity. unmixed: 1.0 where the crop is nearer to its own
            subject than to any other of the query (1.0 where there is no other).
        given_rank: rank of the subject whose picture the shuffled control was given.
        nearest_row: cut-out of the nearest gallery entry.
        is_seen: whether the label occurs in training. is_model: model or emoji.
    """

    rank: np.ndarray
    cosine: np.ndarray
    unmixed: np.ndarray
    given_rank: np.ndarray
    nearest_row: np.ndarray
    is_seen: np.ndarray
    is_model: np.ndarray

    def found(self, within: int = 1) -> np.ndarray:
        """(Q,) share of a query's subjects found among the first ``within``."""
        found: np.ndarray = (self.rank < within).mean(axis=1)
        return found


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Looks crops up in a gallery, whose pictures are the library's."""

    gallery: Gallery
    library: Library
    encoder: MetricEncoder

    def crop_features(self, pictures: np.ndarray, queries: Sequence[Query]) -> np.ndarray:
        """Metric features (Q, N, F) of the asked boxes in ``pictures`` (Q, H, H, 3)."""
        crops = [
            box_crop(picture, subject.box_px, INPUT_SIDE)
            for picture, query in zip(pictures, queries, strict=True)
            for subject in query.subjects
        ]
        features = self.encoder.encode(np.stack(crops))
        return features.reshape(len(queries), -1, features.shape[-1])

    def look_up(
        self, features: np.ndarray, reference_rows: list[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Crops (Q, F) looked up as the subjects of ``reference_rows``: rank and cosine (Q,) of the
        right one, and all cosines (Q, G)."""
        gallery, records = self.gallery, self.library.records
        index_of = {identity: index for index, identity in enumerate(gallery.identities)}
        right = np.array([index_of[records[row]["identity"]] for row in reference_rows])
        views = view_vectors(self.library, reference_rows)
        similarities = gallery.similarities(features, views)
        return *look_up(gallery.best_by_identity(similarities), right), similarities

    def score(self, features: np.ndarray, queries: Sequence[Query]) -> RowScores:
        """Scores of crops' features (Q, N, F)."""
        columns = [self._score_slot(features[:, n], queries, n) for n in range(features.shape[1])]
        return RowScores(**{key: np.stack([c[key] for c in columns], 1) for key in columns[0]})

    def _score_slot(
        self, features: np.ndarray, queries: Sequence[Query], slot: int
    ) -> dict[str, np.ndarray]:
        """The columns of :class:`RowScores` for one subject of every query; features (Q, F)."""
        subjects, slots = [q.subjects[slot] for q in queries], range(len(queries[0].subjects))
        looked_up = [
            self.look_up(features, [q.subjects[n].reference_row for q in queries]) for n in slots
        ]
        rank, cosine, similarities = looked_up[slot]
        others = [looked_up[other][1] for other in slots if other != slot]
        nearest_other = np.maximum.reduce([np.full(len(queries), -np.inf), *others])
        seen = {record["label"] for record in self.library.records if record["split"] == "train"}
        return {
            "rank": rank,
            "cosine": cosine,
            "unmixed": (cosine > nearest_other).astype(np.float64),
            "given_rank": self.look_up(features, [s.shuffled_row for s in subjects])[0],
            "nearest_row": self.gallery.rows[similarities.argmax(axis=1)],
            "is_seen": np.array([subject.label in seen for subject in subjects]),
            "is_model": np.array([s.identity.startswith("model:") for s in subjects]),
        }

    def twin_cosines(
        self, features: np.ndarray, queries: Sequence[Query]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cosines (Q,) of swap crops (Q, F) to their own and to the pair's other design."""
        own_rows = [query.subjects[0].reference_row for query in queries]
        twin_rows = [own_rows[index ^ 1] for index in range(len(own_rows))]
        return self.look_up(features, own_rows)[1], self.look_up(features, twin_rows)[1]


def summarise(scores: RowScores) -> dict[str, Interval | None]:
    """The row's numbers with intervals; None where a part has no subjects."""
    found = (scores.rank == 0).astype(np.float64)
    summary = {
        "top1": mean_interval(scores.found(1)),
        "top5": mean_interval(scores.found(5)),
        "cosine": mean_interval(scores.cosine.mean(axis=1)),
        "top1_seen": mean_interval(found[scores.is_seen]),
        "top1_unseen": mean_interval(found[~scores.is_seen]),
        "top1_models": mean_interval(found[scores.is_model]),
        "top1_emoji": mean_interval(found[~scores.is_model]),
        "top1_given_picture": mean_interval((scores.given_rank == 0).mean(axis=1)),
    }
    if found.shape[1] > 1:
        for name, column in zip(ORDINALS, found.T, strict=False):
            summary[f"top1_{name}"] = mean_interval(column)
        summary["top1_all"] = mean_interval(found.min(axis=1))
        summary["unmixed"] = mean_interval(scores.unmixed.mean(axis=1))
    return summary
