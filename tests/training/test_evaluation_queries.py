"""Queries, pictures and the whole bench on a small work folder with made-up pictures."""

from pathlib import Path

import numpy as np
import pytest
from bench_work import SIDE, write_work

from training.evaluation.crops import box_crop, box_to_pixels
from training.evaluation.gallery import Gallery, gallery_crop, gallery_entries
from training.evaluation.pictures import (
    cached_pictures,
    contained_box,
    generation_request,
    paste_subjects,
    real_composite,
)
from training.evaluation.queries import draw_queries, draw_swap_pair
from training.evaluation.scoring import Judge, summarise
from training.toy.data.library import Library, load_library


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_work(tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def library(work: Path) -> Library:
    return load_library(work, "heldout", "heldout")


@pytest.mark.parametrize("kind", ["one", "two", "four", "swap"])
def test_queries_are_fixed_and_a_short_run_is_the_start_of_a_long_one(library: Library, kind: str):
    assert draw_queries(library, kind, 4) == draw_queries(library, kind, 8)[:4]


@pytest.mark.parametrize("kind", ["one", "two", "four", "swap"])
def test_queries_ask_for_heldout_subjects_in_heldout_scenes(library: Library, kind: str):
    for query in draw_queries(library, kind, 12):
        assert query.scene == "park"
        for subject in query.subjects:
            rows = (subject.reference_row, subject.target_row, subject.shuffled_row)
            assert all(library.records[row]["split"] == "heldout" for row in rows)
            assert library.records[subject.target_row]["identity"] == subject.identity
            assert library.records[subject.shuffled_row]["label"] != subject.label
            assert subject.label in query.prompt


def test_real_composites_never_show_the_references_view(library: Library):
    subjects = [query.subjects[0] for query in draw_queries(library, "one", 40)]
    for subject in subjects:
        views = [library.records[r]["view"] for r in (subject.reference_row, subject.target_row)]
        if views[0] is not None:
            assert np.dot(*views) < np.cos(np.radians(30))
    assert any(subject.identity.startswith("model:") for subject in subjects)


def test_boxes_keep_the_aspect_of_the_reference_and_lie_inside(library: Library):
    for query in draw_queries(library, "two", 12):
        for subject in query.subjects:
            x1, y1, x2, y2 = subject.box_px
            assert 0 <= x1 < x2 <= SIDE and 0 <= y1 < y2 <= SIDE
            record = library.records[subject.reference_row]
            aspect = record["width"] / record["height"]
            assert (x2 - x1) / (y2 - y1) == pytest.approx(aspect, abs=0.03)


def test_a_swap_pair_differs_in_its_subject_alone(library: Library):
    first, second = draw_swap_pair(library, 0)
    assert (first.prompt, first.seed, first.background_row) == (
        second.prompt,
        second.seed,
        second.background_row,
    )
    assert first.subjects[0].box_px == second.subjects[0].box_px
    assert first.subjects[0].label == second.subjects[0].label
    identities = [query.subjects[0].identity for query in (first, second)]
    assert [name.rsplit(":", 1)[1] for name in identities] == ["fluent", "noto"]
    assert identities[0].split(":")[1] == identities[1].split(":")[1]


def test_controls_get_what_they_should(library: Library):
    query = draw_queries(library, "two", 1)[0]
    full = generation_request(library, query, "subject", 96)
    shuffled = generation_request(library, query, "shuffled", 96)
    text_only = generation_request(library, query, "text_only", 96)
    assert full.prompt == shuffled.prompt == text_only.prompt
    assert full.seed == shuffled.seed == text_only.seed
    assert text_only.subjects == ()
    for own, other in zip(full.subjects, shuffled.subjects, strict=True):
        assert (own.label, own.box_xyxy) == (other.label, other.box_xyxy)
        assert not np.array_equal(own.reference, other.reference)


def test_real_composites_show_the_subject_inside_the_box(library: Library):
    query = draw_queries(library, "one", 1)[0]
    subject = query.subjects[0]
    picture = real_composite(library, query)
    x1, y1, x2, y2 = subject.box_px
    color = library.cutouts[subject.target_row][64, 64, :3].astype(int)
    shown = picture[(y1 + y2) // 2, (x1 + x2) // 2].astype(int)
    assert np.abs(shown - color).max() <= 60  # compose() changes the light by up to 10 percent


def test_pasting_keeps_the_picture_around_the_subject(library: Library):
    for query in draw_queries(library, "seen_scene", 4):
        background = np.full((SIDE, SIDE, 3), (10, 200, 90), np.uint8)
        picture = paste_subjects(library, query, background)
        x1, y1, x2, y2 = query.subjects[0].box_px
        assert (picture[:y1] == background[:y1]).all()  # above it, where no shadow falls
        assert (picture[y1:y2, x1:x2] != background[y1:y2, x1:x2]).any()


def test_the_gallery_holds_all_models_and_heldout_emoji_in_both_orientations(library: Library):
    entries = gallery_entries(library)
    rows = [entry.row for entry in entries]
    models = [i for i, r in enumerate(library.records) if r["identity"].startswith("model:")]
    assert sorted(r for r in rows if r in set(models)) == models
    emoji = [i for i in range(len(library.records)) if i not in set(models)]
    assert all(rows.count(row) == 2 for row in emoji)
    names = [library.records[row]["identity"] for row in rows]
    assert names == sorted(names)
    assert np.array_equal(gallery_crop(library, entries[0]), gallery_crop(library, entries[0]))


def test_crops_see_the_box_and_its_margin_only():
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[32:96, 32:64] = 200
    image[:, 80:] = (255, 0, 0)  # a neighbour beyond the margin
    crop = box_crop(image, (32, 32, 64, 96), 64, margin=0.0)
    assert crop.shape == (64, 64, 3)
    assert (crop[:, 16:48] == 200).all()
    assert (crop[:, :16] == 255).all() and (crop[:, 48:] == 255).all()
    with_margin = box_crop(image, (32, 32, 64, 96), 64)
    red = (with_margin[..., 0] == 255) & (with_margin[..., 1] == 0)
    assert not red.any()


def test_boxes_at_the_rim_are_cropped():
    image = np.full((SIDE, SIDE, 3), 7, np.uint8)
    assert box_crop(image, (0, 0, 128, 128), 32).tolist() == np.full((32, 32, 3), 7).tolist()
    assert box_to_pixels((0.0, 0.5, 0.25, 1.0), 128) == (0, 64, 32, 128)


def test_a_contained_box_touches_two_sides():
    assert contained_box((10, 10, 50, 90), 20, 20) == (10, 30, 50, 70)


def one_hot_gallery(library: Library) -> Gallery:
    """One entry an identity, all at right angles."""
    names = sorted({record["identity"] for record in library.records})
    first_rows = {r["identity"]: row for row, r in reversed(list(enumerate(library.records)))}
    return Gallery(
        features=np.eye(len(names), dtype=np.float32),
        rows=np.array([first_rows[name] for name in names]),
        views=np.full((len(names), 3), np.nan),
        identities=names,
        identity_of=np.arange(len(names)),
    )


def test_a_crop_that_shows_another_subject_of_the_query_is_mixed(library: Library):
    gallery = one_hot_gallery(library)
    queries = draw_queries(library, "four", 2)
    right = [[gallery.identities.index(s.identity) for s in q.subjects] for q in queries]
    features = gallery.features[np.array(right)]
    features[0, 0] = features[0, 2]
    scores = Judge(gallery=gallery, library=library, encoder=None).score(features, queries)
    assert scores.unmixed.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    summary = summarise(scores)
    assert (summary["top1_first"].value, summary["top1_fourth"].value) == (0.5, 1.0)
    assert (summary["top1_all"].value, summary["top1"].value) == (0.5, 7 / 8)


def test_an_interrupted_row_goes_on_after_the_last_batch(library: Library, tmp_path: Path):
    queries = draw_queries(library, "one", 5)
    asked: list[int] = []

    def make(batch):
        asked.extend(query.index for query in batch)
        if query_limit and len(asked) > query_limit:
            raise KeyboardInterrupt
        return np.stack([np.full((4, 4, 3), query.index, np.uint8) for query in batch])

    query_limit = 4
    path = tmp_path / "pictures" / "row.npy"
    with pytest.raises(KeyboardInterrupt):
        cached_pictures(path, queries, make, batch_size=2)
    asked.clear()
    query_limit = 0
    pictures = cached_pictures(path, queries, make, batch_size=2)
    assert asked == [4]
    assert pictures[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
