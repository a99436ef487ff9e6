"""TinyBench's gallery with a few subjects, for reports of few pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.evaluation.gallery import Gallery, build_gallery
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
    return build_gallery(library, encoder, out, spoken_of)
