"""HiFi Tuner's table 2 on the small model: its graphs, its measures, its table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from one_query import QUERY, SUBJECT

from benchmarks.tuned_subjects.__main__ import chosen_rows, main
from benchmarks.tuned_subjects.report import REAL, difference, resolved, sheet, table
from benchmarks.tuned_subjects.rows import (
    GUIDED,
    MASK,
    PLAIN,
    REGULARIZED,
    STEPWISE,
    TEXT,
    Sizes,
    picture_graph,
    report_rows,
    sweep_rows,
    tuning_graph,
    weights_graph,
)
from benchmarks.tuned_subjects.scores import (
    GREY,
    MEASURES,
    NUM_OTHERS,
    Scorer,
    leak,
    other_photographs,
    without_box,
)
from benchmarks.tuned_subjects.subjects import TunedSubject, all_queries, draw_subjects
from training.evaluation.gallery import Gallery, view_vectors
from training.evaluation.scoring import Judge
from training.evaluation.text_match import LinearHead
from training.toy.data.library import Library

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "assets" / "subjects" / "crab.png"
SIZES = Sizes(steps=20, tuning_steps=30, steps_per_set=2, weight_steps=7)
ROWS = report_rows(0.1)


@pytest.mark.parametrize("row", [*ROWS, *sweep_rows()], ids=lambda row: row.name)
def test_graphs_are_whole(row):
    """Every link leads to a node that is there, and what makes the row acts."""
    files = ["crab.safetensors"] if row.tuning is not None or row.has_weights else []
    graph = picture_graph(row, QUERY, PICTURE, files, SIZES)
    for node in graph.values():
        for value in node["inputs"].values():
            assert not isinstance(value, list) or value[0] in graph
    kinds = [node["class_type"] for node in graph.values()]
    assert ("SubjectDiffusionApply" in kinds) is row.has_adapter
    assert ("SubjectDiffusionApplyEmbedding" in kinds) is (row.tuning is not None)
    assert ("LoraLoaderModelOnly" in kinds) is row.has_weights
    sampler = graph["sampler"]["class_type"]
    assert (sampler == "SubjectDiffusionReferenceGuidedSampler") is row.is_guided
    assert graph["sigmas"]["inputs"]["scheduler"] == "ddim_uniform"
    if row.is_guided:
        # to the subject's own shape: a box would enlarge what is thinner than it
        assert graph["mask_1"]["class_type"] == "InvertMask"
        assert graph["sampler"]["inputs"]["mask"] == ["mask_1", 0]
    if row.has_weights:
        assert graph["guider"]["inputs"]["model"] == graph["sigmas"]["inputs"]["model"]
        assert graph["guider"]["inputs"]["model"] == ["lora", 0]
    if row.tuning is not None:
        mode = graph["positive"]["inputs"]["mode"]
        assert mode == ("step-wise" if row.is_stepwise else "whole")


def test_each_row_adds_one_thing_to_its_control():
    """Table 2, from top to bottom; a control comes before the rows compared with it."""
    by_name = {row.name: row for row in ROWS}
    for rows in (ROWS, sweep_rows()):
        for place, row in enumerate(rows):
            assert row.control is None or row.control in [other.name for other in rows[:place]]
    plain, mask, held = (by_name[name].tuning for name in (PLAIN, MASK, REGULARIZED))
    assert (plain.use_mask, mask.use_mask) == (False, True)
    assert (plain.regularization, mask.regularization, held.regularization) == (0, 0, 0.1)
    # one file, of which one row takes the whole set
    assert by_name[STEPWISE] == replace(
        by_name[REGULARIZED], name=STEPWISE, is_stepwise=True, control=REGULARIZED
    )
    assert by_name[GUIDED] == replace(
        by_name[STEPWISE], name=GUIDED, is_guided=True, control=STEPWISE
    )


def test_some_rows_are_compared_with_what_is_among_them():
    assert chosen_rows(ROWS, None) == ROWS
    plain, mask = chosen_rows(ROWS, [PLAIN, MASK])
    assert (plain.name, plain.control, mask.name, mask.control) == (PLAIN, None, MASK, PLAIN)
    with pytest.raises(SystemExit, match=r"--rows: expected text, adapter, .*, got masks\. Take"):
        chosen_rows(ROWS, ["masks"])


def test_tuning_is_asked_for_as_the_row_says():
    for row in (*ROWS, *sweep_rows()):
        if row.tuning is None:
            continue
        asked = tuning_graph(row.tuning, QUERY, PICTURE, "folder/name", SIZES)["tune"]["inputs"]
        assert asked["use_mask"] is row.tuning.use_mask
        assert asked["regularization"] == row.tuning.regularization
        assert asked["steps_per_set"] == (2 if row.tuning.is_stepwise else 0)
        assert (asked["steps"], asked["num_sets"], asked["picture_size"]) == (30, 20, 128)
    trained = weights_graph(QUERY, PICTURE, "loras/name", SIZES)
    assert trained["train"]["inputs"]["steps"] == 7
    assert trained["positive"]["inputs"]["text"] == "a photo of a crab"


def make_library(num_identities: int = 5) -> Library:
    """Red squares of which each has two views, before flat photographs of two held-out scenes and
    one of training."""
    records, cutouts = [], []
    for number in range(num_identities):
        for view in ([0.0, 0.0, 1.0], [1.0, 0.0, 0.0]):
            rgba = np.zeros((128, 128, 4), np.uint8)
            rgba[32:96, 32:96] = (200, 20 * number, 0, 255)
            cutouts.append(rgba)
            records.append(
                {
                    "identity": f"model:{number}",
                    "label": f"thing {number}",
                    "width": 64,
                    "height": 64,
                    "view": view,
                    "split": "heldout",
                }
            )
    scenes = [
        {"scene": name, "caption": f"in a {name}", "split": split}
        for name, split in (("park", "heldout"), ("quay", "heldout"), ("forest", "train"))
    ]
    models = [(f"thing {n}", [2 * n, 2 * n + 1]) for n in range(num_identities)]
    return Library(
        cutouts=np.stack(cutouts),
        records=records,
        backgrounds=np.stack([np.full((128, 128, 3), 60 * n, np.uint8) for n in (1, 2, 3)]),
        scenes=scenes,
        models=models,
        emoji=models,
        scene_rows=[0, 1],
    )


def test_a_training_picture_shows_the_subject_where_it_is_asked_for():
    library = make_library()
    subjects = draw_subjects(library, 3, 2)
    assert len({s.queries[0].subjects[0].identity for s in subjects}) == 3
    for number, subject in enumerate(subjects):
        x1, y1, x2, y2 = subject.queries[0].subjects[0].box_px
        alpha = subject.picture[..., 3]
        inside = np.zeros_like(alpha)
        inside[y1:y2, x1:x2] = 255
        assert (alpha == inside).all()  # a square fills its box
        assert subject.background_scene in ("park", "quay")
        for query in subject.queries:
            assert query.index == number and query.scene == "forest"
            assert subject.label in query.prompt and "forest" in query.prompt
        assert subject.queries[0].seed != subject.queries[1].seed


def test_a_shorter_run_has_the_first_subjects_of_a_longer_one():
    library = make_library()
    longer, shorter = (draw_subjects(library, count, 2) for count in (4, 2))
    assert all_queries(shorter) == all_queries(longer)[:4]
    assert all((a.picture == b.picture).all() for a, b in zip(shorter, longer, strict=False))


def test_skipped_subjects_are_none_of_the_others():
    library = make_library()
    skipped, rest = draw_subjects(library, 2, 1), draw_subjects(library, 2, 1, skipped=2)
    assert not {identity_of(one) for one in skipped} & {identity_of(one) for one in rest}
    both = draw_subjects(library, 4, 1)
    assert [identity_of(one) for one in both] == [identity_of(one) for one in (*skipped, *rest)]


def identity_of(subject: TunedSubject) -> str:
    return subject.queries[0].subjects[0].identity


def test_the_report_takes_none_of_the_sweeps_subjects(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["report", "--out", str(tmp_path), "--count", "41"])
    assert "expected at most 40 subjects, got 41" in capsys.readouterr().err


def test_leak_sees_what_lies_outside_the_box_only():
    picture = np.zeros((128, 128, 3), np.uint8)
    inside, outside = picture.copy(), picture.copy()
    inside[70:120, 40:90] = 255
    outside[:20] = 255
    box = SUBJECT.box_px
    assert (without_box(picture, box) == without_box(inside, box)).all()
    assert (without_box(picture, box) != without_box(outside, box)).any()
    assert (without_box(picture, box)[64:128, 32:96] == GREY).all()
    own, others = np.array([1.0, 0.0]), np.array([[0.0, 1.0], [0.6, 0.8]])
    near, far = leak(np.array([[1.0, 0.0], [0.0, 1.0]]), own, others)
    assert near == pytest.approx(0.7) and far == pytest.approx(-0.9)


def test_the_leak_is_measured_against_other_scenes():
    library = make_library()
    (subject,) = draw_subjects(library, 1, 1)
    others = other_photographs(library, subject)
    assert len(others) == 1 <= NUM_OTHERS
    own = library.backgrounds[subject.background_row]
    assert (others[0] != own).all()


class MeanColour:
    """Stands for the metric encoder: features that tell colours apart."""

    def encode(self, crops: np.ndarray) -> np.ndarray:
        colours = crops.mean(axis=(1, 2))
        features = np.concatenate((colours, np.full((len(crops), 1), 60.0)), axis=1)
        return features / np.linalg.norm(features, axis=1, keepdims=True)


def make_judge(library: Library) -> Judge:
    """A gallery of all cut-outs, on white."""
    encoder, rows = MeanColour(), np.arange(len(library.records))
    identities = [record["identity"] for record in library.records]
    names, identity_of = np.unique(identities, return_inverse=True)
    gallery = Gallery(
        features=encoder.encode(library.cutouts[:, 32:96, 32:96, :3]),
        rows=rows,
        views=view_vectors(library, rows),
        identities=names.tolist(),
        identity_of=identity_of,
    )
    return Judge(gallery=gallery, library=library, encoder=encoder)


def test_scores_stand_subject_by_subject():
    """The training picture shows the subject and leaks, another photograph does neither; the
    scene's head is asked for the prompt's scene."""
    library = make_library()
    subjects = draw_subjects(library, 2, 2)
    head = LinearHead(weight=np.zeros((2, 4)), bias=np.array([1.0, 0.0]), classes=["forest", "sea"])
    pictures = []
    for subject in subjects:
        pictures.append(subject.picture[..., :3])
        other = 1 - subject.background_row
        pictures.append(np.asarray(library.backgrounds[other]))
    scorer = Scorer(judge=make_judge(library), scene_head=head)
    scores = scorer.score(np.stack(pictures), subjects)
    assert set(scores) == set(MEASURES)
    assert all(values.shape == (2, 2) for values in scores.values())
    assert (scores["cosine"][:, 0] > scores["cosine"][:, 1] + 0.1).all()
    assert (scores["scene"] == 1.0).all()
    assert (scores["leak"][:, 0] > 0).all() and (scores["leak"][:, 1] < 0).all()


def constant(cosines: list[list[float]], leaks: float = 0.0) -> dict[str, np.ndarray]:
    values = {measure: np.zeros_like(np.array(cosines)) for measure in MEASURES}
    return {**values, "cosine": np.array(cosines), "leak": np.full_like(values["leak"], leaks)}


def test_the_table_pairs_subjects():
    scores = {
        REAL: constant([[0.9, 0.9], [0.9, 0.9]]),
        TEXT: constant([[0.1, 0.3], [0.5, 0.7]]),
        PLAIN: constant([[0.3, 0.5], [0.7, 0.9]], leaks=0.2),
    }
    lines = table(ROWS, scores)
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {n}" for n in (TEXT, PLAIN, REAL)]
    # each subject moved by .2, so the paired interval has no width
    assert "0.600 (+0.200 [+0.200, +0.200])" in lines[3] and f"| {TEXT} |" in lines[3]
    assert "0.200 (+0.200 [" in lines[3]
    assert MASK not in "".join(lines)


def test_what_an_interval_tells_takes_six_subjects():
    scores = {TEXT: constant([[0.1]] * 6), PLAIN: constant([[0.3]] * 6, leaks=0.2)}
    (line,) = resolved(ROWS, scores)
    assert line == f"- {PLAIN}: differs from {TEXT} in cosine, leak; not resolved: top-1, scene."
    few = {name: {key: own[:5] for key, own in row.items()} for name, row in scores.items()}
    assert resolved(ROWS, few) == [f"- {PLAIN}: too few subjects to tell."]


def test_guided_rows_are_compared_with_the_same_subjects():
    own, control = np.array([[0.4]]), np.array([[0.3], [100.0]])
    assert difference(own, control).value == pytest.approx(0.1)


def test_the_sheet_shows_the_first_seed_of_every_row():
    subjects = [
        TunedSubject(
            picture=np.full((128, 128, 4), 9, np.uint8),
            background_row=0,
            background_scene="park",
            queries=(QUERY, QUERY),
        )
    ] * 2
    made = {TEXT: np.stack([np.full((128, 128, 3), n, np.uint8) for n in (10, 20, 30, 40)])}
    made[GUIDED] = made[TEXT][:2] + 100  # the first subject alone
    drawn = sheet(subjects, made, 2)
    first, second = drawn[28 + 64], drawn[28 + 156 + 64]
    assert [int(first[x, 0]) for x in (64, 192, 320)] == [9, 10, 110]
    assert [int(second[x, 0]) for x in (64, 192, 320)] == [9, 30, 255]
