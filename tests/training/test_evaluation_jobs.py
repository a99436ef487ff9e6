"""TinyBench's queries as jobs, and a generator's pictures back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bench_work import write_work
from PIL import Image

from devtools.jobs import GenerationSettings, job_from_line
from training.__main__ import main
from training.evaluation.jobs import StoredPictures, picture_name
from training.evaluation.queries import draw_queries
from training.evaluation.rows import ROWS, SamplingSettings
from training.toy.data.library import load_library

COUNT = 2
ROW_NAMES = ("one_subject", "one_text_only", "one_shuffled", "two_subjects", "one_real")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_work(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def jobs(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("jobs") / "jobs.jsonl"
    words = ["--work", str(work), "--out", str(path), "--limit", str(COUNT)]
    main(["evaluate", "jobs", *words, "--rows", *ROW_NAMES])
    return path


def test_every_query_is_a_job_that_the_generator_reads(work: Path, jobs: Path) -> None:
    lines = jobs.read_text().splitlines()
    assert len(lines) == COUNT * 4  # the real composites need no generator
    library = load_library(work, "heldout", "heldout")
    asked = {kind: draw_queries(library, kind, COUNT) for kind in ("one", "two")}
    read = [job_from_line(line, n, Path("p"), GenerationSettings()) for n, line in enumerate(lines)]
    by_name = {job.out.as_posix(): job for job in read}
    first = by_name["p/two_subjects/0001.png"]
    query = asked["two"][1]
    assert (first.prompt, first.seed) == (query.prompt, query.seed)
    assert [s.label for s in first.subjects] == [s.label for s in query.subjects]
    boxes = [s.box_xyxy for s in first.subjects]
    assert np.allclose(boxes, [s.box_xyxy for s in query.subjects], atol=1e-6)
    shown = np.asarray(Image.open(first.subjects[0].image))
    assert np.array_equal(shown, library.cutouts[query.subjects[0].reference_row])
    assert (first.settings.sampler, first.settings.scheduler) == ("ddim", "sgm_uniform")
    assert not first.settings.is_base_only and first.settings.image_guidance_scale == 5.0
    plain = by_name["p/one_text_only/0000.png"]
    assert plain.settings.is_base_only and not plain.subjects
    assert plain.settings.text_guidance_scale == 3.0
    shuffled = Path(by_name["p/one_shuffled/0000.png"].subjects[0].image)
    assert int(shuffled.stem) == asked["one"][0].subjects[0].shuffled_row


def test_the_method_stands_in_the_jobs(work: Path, tmp_path: Path) -> None:
    words = ["--work", str(work), "--out", str(tmp_path / "j.jsonl"), "--limit", "1"]
    rows = ["--rows", "one_subject", "one_text_only"]
    main(["evaluate", "jobs", *words, *rows, "--method", "mine"])
    lines = (tmp_path / "j.jsonl").read_text().splitlines()
    assert [json.loads(line)["method"] for line in lines] == ["mine", "base"]


def test_stored_pictures_stand_in_for_generated_ones(work: Path, tmp_path: Path) -> None:
    library = load_library(work, "heldout", "heldout")
    row = next(row for row in ROWS if row.name == "one_subject")
    queries = draw_queries(library, row.kind, COUNT)
    stored = StoredPictures(library, tmp_path, SamplingSettings(), tmp_path)
    with pytest.raises(ValueError, match="--pictures: expected a picture for every job, got none"):
        stored.all_of(row, queries, tmp_path)
    rng = np.random.default_rng(0)
    made = rng.integers(256, size=(COUNT, 128, 128, 3), dtype=np.uint8)
    for number, pixels in enumerate(made):
        path = tmp_path / picture_name(row, number)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    before = stored.fingerprint(row, queries)
    assert np.array_equal(stored.all_of(row, queries, tmp_path), made)
    Image.fromarray(made[0, ::-1]).resize((256, 256)).save(tmp_path / picture_name(row, 1))
    assert stored.fingerprint(row, queries) != before
    assert stored.all_of(row, queries, tmp_path).shape == made.shape


def test_pictures_belong_to_score(work: Path, tmp_path: Path) -> None:
    for words in (["evaluate", "score"], ["evaluate", "--pictures", str(tmp_path)]):
        with pytest.raises(SystemExit, match="--pictures: expected it with `evaluate score`"):
            main([*words, "--work", str(work), "--out", str(tmp_path / "out")])
