"""A row's kept pictures are used again exactly as long as what made them stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench_work import write_work
from tiny_parts import write_weights

from subject_diffusion_core import checkpoint
from training.evaluation.pictures import PictureMaker
from training.evaluation.queries import Query, draw_queries
from training.evaluation.rows import ROWS, Row, SamplingSettings
from training.toy.data.library import Library, load_library
from training.toy.files import ADAPTER_NAME

SETTINGS = SamplingSettings()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return load_library(write_work(tmp_path_factory.mktemp("work")), "heldout", "heldout")


@pytest.fixture(scope="module")
def queries(library: Library) -> list[Query]:
    return draw_queries(library, "seen_scene", 2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights"))


def row_from(source: str) -> Row:
    return next(row for row in ROWS if row.source == source)


def sources_that_change(before: PictureMaker, after: PictureMaker, queries: list[Query]) -> set:
    rows = {row.source: row for row in ROWS}
    return {
        source
        for source, row in rows.items()
        if before.fingerprint(row, queries) != after.fingerprint(row, queries)
    }


def test_another_adapter_changes_the_rows_that_use_it(
    library: Library, queries: list[Query], weights: Path
) -> None:
    before = PictureMaker(library, weights, SETTINGS)
    assert before.fingerprint(row_from("subject"), queries)  # hashed before the file changes
    assert before.base_sha256
    checkpoint.save_provenance(weights / ADAPTER_NAME, {"changed": True})
    after = PictureMaker(library, weights, SETTINGS)
    assert sources_that_change(before, after, queries) == {"subject", "shuffled"}


@pytest.mark.parametrize(
    ("changed", "sources"),
    [
        ({"text_guidance_scale": 9.0}, {"subject", "shuffled"}),
        ({"image_guidance_scale": 9.0}, {"subject", "shuffled"}),
        ({"text_only_guidance_scale": 9.0}, {"text_only", "text_only_pasted"}),
        ({"steps": 9}, {"subject", "shuffled", "text_only", "text_only_pasted"}),
        ({"batch_size": 9}, set()),
    ],
)
def test_a_setting_changes_the_rows_that_use_it(
    library: Library, queries: list[Query], weights: Path, changed: dict, sources: set
) -> None:
    before = PictureMaker(library, weights, SETTINGS)
    after = PictureMaker(library, weights, replace(SETTINGS, **changed))
    assert sources_that_change(before, after, queries) == sources


def test_the_pasted_control_is_the_text_only_picture_with_a_subject_in_the_box(
    library: Library, queries: list[Query], weights: Path
) -> None:
    maker = PictureMaker(library, weights, replace(SETTINGS, steps=2))
    plain = maker.make(row_from("text_only"), queries)
    pasted = maker.make(row_from("text_only_pasted"), queries)
    for query, before, after in zip(queries, plain, pasted, strict=True):
        x1, y1, x2, y2 = query.subjects[0].box_px
        assert (before[:y1] == after[:y1]).all()
        assert (before[y1:y2, x1:x2] != after[y1:y2, x1:x2]).any()
