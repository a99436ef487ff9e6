"""The stages with networks: real classes at tiny width, from checkpoints on disk; real spaCy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from own_pictures import write_pictures
from PIL import Image
from segment_anything import SamPredictor
from tiny_curation_models import WORDS, save_blip2, save_grounding_dino, save_sam

from training.curation.boxes import Detector
from training.curation.build import Build
from training.curation.captions import Captioner
from training.curation.check import check
from training.curation.masks import Segmenter, load_sam
from training.curation.nouns import NounFinder, NumberWriter
from training.curation.pictures import load
from training.curation.record import FoundEntity, Noun, PictureSource, Record
from training.curation.record_masks import pixels_of
from training.curation.settings import CurationSettings, ModelSettings, with_settings

NOUNS = (Noun(label="red ball", span=(0, 8)), Noun(label="dog", span=(13, 16)))
EVERYTHING = (
    "thresholds.min_side=0", "thresholds.min_area=0", "thresholds.max_area=1",
    "thresholds.min_aspect=0", "thresholds.max_aspect=1000", "thresholds.max_iou=1",
    "thresholds.max_per_label=99", "thresholds.min_score=0", "thresholds.min_mask_share=0",
    "box_floor=0", "max_caption=8",
)  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_blip2(folder / "blip2")
    save_grounding_dino(folder / "dino")
    save_sam(folder / "sam.pth")
    return folder


@pytest.fixture(scope="module")
def settings(models: Path) -> CurationSettings:
    paths = {"caption": "blip2", "boxes": "dino", "masks": "sam.pth"}
    changes = [f"{stage}.model={models / name}" for stage, name in paths.items()]
    return with_settings(CurationSettings(), [*EVERYTHING, *changes])


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[Record]:
    """Four checked pictures of four sizes."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    found = []
    for number, size in enumerate([(90, 60), (60, 90), (128, 128), (40, 100)]):
        small = rng.integers(0, 255, (5, 5, 3), np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(small).resize(size).save(path)
        record = check(Record(key=str(number), picture=PictureSource(path=str(path))))
        assert isinstance(record, Record)
        found.append(record)
    return found


def with_dtype(settings: CurationSettings, stage: str, dtype: str) -> CurationSettings:
    return with_settings(settings, [f"{stage}.dtype={dtype}"])


def test_captions_are_words_and_the_same_in_a_batch(
    settings: CurationSettings, records: list[Record]
) -> None:
    captioner = Captioner(settings)
    together = [record.caption for record in captioner(records)]
    assert together == [captioner([record])[0].caption for record in records]
    assert len(set(together)) > 1, "pictures differ, so captions do"
    for caption in together:
        assert caption and set(caption.split()) <= set(WORDS) and len(caption.split()) <= 8
    with_prompt = Captioner(replace(settings, prompt="a dog"))(records[:2])
    assert all(record.caption and record.captioned for record in with_prompt)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_networks_run_in_the_chosen_numbers(
    dtype: str, settings: CurationSettings, records: list[Record]
) -> None:
    captioner = Captioner(with_dtype(settings, "caption", dtype))
    assert captioner.model.language_projection.weight.dtype == getattr(torch, dtype)
    assert all(isinstance(record.caption, str) for record in captioner(records))
    segmenter = Segmenter(with_dtype(settings, "masks", dtype))
    boxed = [replace(records[0], entities=(FoundEntity(label="a", box_xyxy=(0, 0, 1, 0.5)),))]
    (record,) = segmenter(boxed)
    assert record.entities and record.entities[0].mask is not None


def test_boxes_are_those_of_the_package_s_own_reading(
    settings: CurationSettings, records: list[Record]
) -> None:
    """Its boxes in pixels; four sizes and two prompts at once give what each gives alone."""
    detector = Detector(settings)
    asked = [replace(record, nouns=NOUNS[: 1 + i % 2]) for i, record in enumerate(records)]
    asked += [replace(record, key=f"{record.key}+", nouns=NOUNS) for record in records]
    together = [record.entities or () for record in detector(asked)]
    for record, found in zip(asked, together, strict=True):
        (alone,) = detector([record])
        assert alone.entities is not None and len(alone.entities) == len(found) == 12
        assert [e.label for e in alone.entities] == [e.label for e in found]
        np.testing.assert_allclose(
            [e.box_xyxy for e in alone.entities], [e.box_xyxy for e in found], atol=1e-5
        )
        assert {(e.label, e.span) for e in found} <= {(n.label, n.span) for n in NOUNS}
        assert [e.score for e in found] == sorted((e.score for e in found), reverse=True)
    record = asked[4]
    inputs = detector.processor(
        images=load(record.picture), text="red ball. dog.", return_tensors="pt"
    )
    with torch.no_grad():
        output = detector.model(**inputs)
    (theirs,) = detector.processor.post_process_grounded_object_detection(
        output, inputs["input_ids"], threshold=0, target_sizes=[(record.height, record.width)]
    )
    scale = torch.tensor([record.width, record.height] * 2)
    expected = (theirs["boxes"] / scale).clamp(0, 1)
    for entity in together[4]:
        assert (expected - torch.tensor(entity.box_xyxy)).abs().amax(1).min() < 1e-3


def test_no_nouns_no_boxes(settings: CurationSettings, records: list[Record]) -> None:
    detector = Detector(settings)
    found = detector([replace(records[0], nouns=()), replace(records[1], nouns=NOUNS)])
    assert found[0].entities == () and len(found[1].entities or ()) == 12


def test_nouns_beyond_the_model_s_text_get_no_boxes(
    settings: CurationSettings, records: list[Record]
) -> None:
    nouns = tuple(Noun(label=f"{'x' * 9}{i}", span=(i, i + 1)) for i in range(9))
    (record,) = Detector(settings)([replace(records[0], nouns=nouns)])
    labels = {entity.label for entity in record.entities or ()}
    assert labels and labels <= {noun.label for noun in nouns[:3]}, "32 tokens hold three"


def test_masks_are_those_of_segment_anything_s_predictor(
    settings: CurationSettings, records: list[Record]
) -> None:
    boxes = [(0.1, 0.2, 0.6, 0.9), (0.5, 0.0, 1.0, 0.4)]
    entities = tuple(FoundEntity(label="dog", box_xyxy=box) for box in boxes)
    batch = [replace(record, entities=entities[: 1 + i % 2]) for i, record in enumerate(records)]
    predictor = SamPredictor(load_sam(settings.masks))
    for record in Segmenter(settings)(batch):
        pixels = np.asarray(load(record.picture))
        predictor.set_image(pixels)
        height, width = pixels.shape[:2]
        for entity in record.entities or ():
            box = np.array(entity.box_xyxy) * [width, height, width, height]
            (theirs,), _, _ = predictor.predict(box=box, multimask_output=False)
            assert entity.mask is not None
            ours = pixels_of(entity.mask)
            assert ours.shape == theirs.shape and (ours != theirs).mean() < 1e-3


def test_a_mask_that_came_along_stays(settings: CurationSettings, records: list[Record]) -> None:
    empty = FoundEntity(label="cat", box_xyxy=(0, 0, 1, 1))
    (made,) = Segmenter(settings)([replace(records[0], entities=(empty,))])
    assert made.entities is not None
    given = replace(made.entities[0], label="given")
    (both,) = Segmenter(settings)([replace(records[0], entities=(given, empty))])
    assert both.entities == (given, made.entities[0])


def test_nouns_of_real_captions() -> None:
    finder = NounFinder(CurationSettings())
    captions = (
        "A brown dog and two dogs play with a teddy bear on the grass",
        "several people sitting at a wooden kitchen table",
        "",
    )
    source = PictureSource(path="a.png")
    records = finder([Record(key=c, picture=source, caption=c) for c in captions])
    labels = [[noun.label for noun in record.nouns or ()] for record in records]
    assert labels == [["dog", "teddy bear", "grass"], ["people", "kitchen table"], []]
    for record in records:
        for noun in record.nouns or ():
            assert (record.caption or "")[slice(*noun.span)].lower() == noun.label


def found(label: str, span: tuple[int, int], count: int) -> tuple[FoundEntity, ...]:
    one = FoundEntity(label=label, span=span, box_xyxy=(0, 0, 1, 1))
    return (one,) * count


def test_number_words_are_added_and_labels_follow() -> None:
    caption = "a group of dogs and three cats beside a tree"
    entities = (
        *found("dogs", (11, 15), 2),
        *found("cats", (26, 30), 3),
        *found("tree", (40, 44), 1),
    )
    record = Record(
        key="a", picture=PictureSource(path="a"), caption=caption, entities=entities, nouns=()
    )
    writer = NumberWriter(CurationSettings())
    (told,) = writer([record])
    assert told.caption == "a group of two dogs and three cats beside a tree"
    for entity in told.entities or ():
        assert entity.span is not None and told.caption[slice(*entity.span)] == entity.label
    (many,) = writer([replace(record, entities=found("dogs", (11, 15), 7))])
    assert many.caption == caption, "from seven on no number, as the authors do it"


def test_a_model_that_lacks_a_file_names_it(
    models: Path, settings: CurationSettings, tmp_path: Path
) -> None:
    makers: tuple[tuple[str, str, Callable[[CurationSettings], object], str], ...] = (
        ("caption", "blip2", Captioner, "model.safetensors"),
        ("caption", "blip2", Captioner, "config.json"),
        ("boxes", "dino", Detector, "tokenizer.json"),
    )
    for number, (stage, name, make, missing) in enumerate(makers):
        folder = tmp_path / str(number)
        shutil.copytree(models / name, folder)
        for path in [folder / missing, *folder.glob("vocab.txt")]:
            path.unlink(missing_ok=True)
        changed = with_settings(settings, [f"{stage}.model={folder}"])
        with pytest.raises(ValueError, match=rf"^{stage}\.model: expected .*{missing}") as error:
            make(changed)
        assert str(folder) in str(error.value)
    nothing = with_settings(settings, ["masks.model=/nowhere/sam.pth"])
    with pytest.raises(
        ValueError, match=r"^masks\.model: expected a checkpoint .*nowhere/sam\.pth"
    ):
        Segmenter(nothing)
    with pytest.raises(ValueError, match=r"^nouns\.model: expected an installed spaCy pipeline"):
        NounFinder(with_settings(settings, ["nouns.model=nothing_like_it"]))


def test_damaged_weights_are_told(models: Path, settings: CurationSettings, tmp_path: Path) -> None:
    folder = tmp_path / "blip2"
    shutil.copytree(models / "blip2", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"^caption\.model: expected files that Blip2") as error:
        Captioner(with_settings(settings, [f"caption.model={folder}"]))
    assert str(folder) in str(error.value)


def raw_pictures(folder: Path) -> Path:
    """Twelve photos, of which two have captions of their own, and one a box."""
    listed = write_pictures(folder / "whole")
    raw = folder / "raw"
    raw.mkdir()
    for line in map(json.loads, listed.read_text().splitlines()):
        shutil.copy(folder / "whole" / line["picture"], raw)
    (raw / "000.txt").write_text("a dog on the lawn")
    (raw / "001.txt").write_text("a cat")
    subject = {"label": "crab", "box": [0.1, 0.1, 0.8, 0.9]}
    (raw / "002.json").write_text(json.dumps({"caption": "a crab", "subjects": [subject]}))
    return raw


def test_raw_pictures_to_shards_and_what_a_change_makes_anew(
    settings: CurationSettings, models: Path, tmp_path: Path
) -> None:
    raw, out = raw_pictures(tmp_path), tmp_path / "set"
    report = Build(pictures=raw, out=out, settings=settings).run()
    made = report["made"]
    assert made["caption"] == 9 and made["nouns"] == made["boxes"] == 11, "what came along stays"
    assert report["pictures"]["kept"] > 2 and report["pictures"]["failed"] == 0
    assert made["masks"] >= report["pictures"]["kept"]
    low = with_settings(settings, ["thresholds.max_per_label=5"])
    again = Build(pictures=raw, out=out, settings=low).run()["made"]
    assert (
        again["filters"] == made["filters"] and {"caption", "nouns", "boxes"} & set(again) == set()
    )
    back = Build(pictures=raw, out=out, settings=settings).run()
    assert back["pictures"] == report["pictures"]
    other = save_sam(tmp_path / "other.pth", seed=1)
    changed = with_settings(settings, [f"masks.model={other}"])
    last = Build(pictures=raw, out=out, settings=changed).run()["made"]
    assert set(last) == {"masks", "mask filter"} and last["masks"] == made["masks"]


def test_a_missing_model_ends_the_build_and_loses_nothing(
    settings: CurationSettings, tmp_path: Path
) -> None:
    raw, out = raw_pictures(tmp_path), tmp_path / "set"
    without = replace(settings, boxes=ModelSettings())
    with pytest.raises(
        ValueError, match=r"^boxes\.model: expected the folder of Grounding DINO, got"
    ):
        Build(pictures=raw, out=out, settings=without).run()
    report = Build(pictures=raw, out=out, settings=settings).run()
    assert report["pictures"]["read"] == 12
