"""TinyBench's gallery with a few subjects, for reports of few pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.evaluation.gallery import (
    Gallery,
    chunk_features,
    gallery_entries,
    gallery_fingerprint,
    view_vectors,
)
from training.evaluation.metric_encoder import MetricEncoder
from training.evaluation.queries import Query
from training.toy.data.library import Library


def gallery_of(
    library: Library, queries: Sequence[Query], encoder: MetricEncoder, out: Path
) -> Gallery:
    """TinyBench's gallery, of the subjects that the queries speak of alone."""
    spoken_of = {
        library.records[row]["identity"]
        for query in queries
        for subject in query.subjects
        for row in (subject.reference_row, subject.shuffled_row)
    }
    entries = [
        entry
        for entry in gallery_entries(library)
        if library.records[entry.row]["identity"] in spoken_of
    ]
    folder = out / f"gallery-{gallery_fingerprint(len(entries))}"
    rows = np.array([entry.row for entry in entries])
    names = [library.records[row]["identity"] for row in rows]
    identities, identity_of = np.unique(names, return_inverse=True)
    return Gallery(
        features=np.concatenate(list(chunk_features(library, entries, encoder, folder))),
        rows=rows,
        views=view_vectors(library, rows),
        identities=identities.tolist(),
        identity_of=identity_of,
    )
