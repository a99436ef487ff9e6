"""COCO's and LVIS's files as records: true boxes and masks come out, what is wrong is listed."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotated_scenes import (
    Scene,
    coco_captions,
    coco_lists,
    make_scenes,
    save_pictures,
    write_json,
)
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask

from training.curation.check import check
from training.curation.convert.coco import convert_coco
from training.curation.convert.conversion import Skipped
from training.curation.record import FoundEntity, Record
from training.curation.record_masks import pixels_of


def converted(
    folder: Path, lists: object, captions: object = None
) -> tuple[list[Record], list[Skipped]]:
    annotations = write_json(folder / "instances.json", lists)
    texts = None if captions is None else write_json(folder / "captions.json", captions)
    found = list(convert_coco(annotations, folder, texts))
    records = [each for each in found if isinstance(each, Record)]
    return records, [each for each in found if isinstance(each, Skipped)]


def mask_of(entity: FoundEntity) -> np.ndarray:
    assert entity.mask is not None
    return pixels_of(entity.mask)


def assert_true(record: Record, scene: Scene) -> None:
    """The record says what is in the scene."""
    assert record.entities is not None and len(record.entities) == len(scene.subjects)
    width, height = scene.picture.size
    for entity, subject in zip(record.entities, scene.subjects, strict=True):
        x1, y1, x2, y2 = subject.box
        assert entity.label == subject.label
        assert entity.box_xyxy == pytest.approx((x1 / width, y1 / height, x2 / width, y2 / height))
        assert np.array_equal(mask_of(entity), subject.mask)


def test_boxes_masks_captions_licences(tmp_path: Path) -> None:
    scenes = make_scenes(4)
    save_pictures(scenes, tmp_path)
    records, skipped = converted(tmp_path, coco_lists(scenes), coco_captions(scenes))
    assert skipped == []
    for record, scene in zip(records, scenes, strict=True):
        assert_true(record, scene)
        assert record.key == f"coco-{scene.number:012d}"
        assert record.caption == scene.caption, "the one that names the subjects"
        assert record.licence == "Attribution License http://example.org/by/2.0/"
        assert record.provenance["id"] == str(scene.number)
        for entity in record.entities or ():
            assert entity.span is not None
            assert scene.caption[slice(*entity.span)] == entity.label
        assert isinstance(check(record), Record), "fits its picture"


def test_polygons_and_compressed_runs_and_crowds(tmp_path: Path) -> None:
    scenes = make_scenes(1)
    lists = coco_lists(scenes)
    save_pictures(scenes, tmp_path)
    first, second = lists["annotations"]
    first["segmentation"] = [[10, 10, 50, 10, 50, 40, 10, 40], [60, 60, 70, 60, 70, 80, 60, 80]]
    second["segmentation"] = coco_mask.encode(np.asfortranarray(scenes[0].subjects[1].mask, "u1"))
    second["segmentation"]["counts"] = second["segmentation"]["counts"].decode()
    second["iscrowd"] = 1
    (record,), skipped = converted(tmp_path, lists)
    assert skipped == [] and record.entities is not None and record.caption is None
    expected = np.zeros((120, 160), bool)
    expected[10:40, 10:50] = expected[60:80, 60:70] = True
    polygons, compressed = record.entities
    assert np.array_equal(mask_of(polygons), expected) and not polygons.is_group
    assert np.array_equal(mask_of(compressed), scenes[0].subjects[1].mask) and compressed.is_group


def test_lvis_has_no_file_names(tmp_path: Path) -> None:
    scenes = make_scenes(2)
    lists = coco_lists(scenes)
    save_pictures(scenes[:1], tmp_path / "train2017")
    save_pictures(scenes[1:], tmp_path)
    for image in lists["images"]:
        del image["file_name"]
        image |= {"not_exhaustive_category_ids": [], "neg_category_ids": [2]}
    for category, name in zip(
        lists["categories"], ("crab_(animal)", "guitar", "wise_owl"), strict=False
    ):
        category |= {"name": name, "synset": "x.n.01", "frequency": "r", "synonyms": [name]}
    records, skipped = converted(tmp_path, lists)
    assert skipped == []
    paths = [Path(record.picture.path).relative_to(tmp_path).parts[0] for record in records]
    assert paths == ["train2017", "000000000002.jpg"]
    labels = {entity.label for record in records for entity in record.entities or ()}
    assert labels <= {"crab", "guitar", "wise owl", "hamburger", "teddy bear", "vase lamp"}
    assert "wise owl" in labels or "crab" in labels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn_on", ["stored", "shown"])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_turned_picture_s_annotations_lie_on_what_is_shown(
    tmp_path: Path, orientation: int, drawn_on: str, kind: str
) -> None:
    """Whether the makers drew on the stored pixels or on the shown ones, told by the size."""
    if drawn_on == "shown" and orientation < 5:
        pytest.skip("the sizes are equal: stored pixels are meant")
    from training.curation.pictures import TURNS

    stored = make_scenes(1)[0]
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = orientation
    stored.picture.save(tmp_path / f"{1:012d}.jpg", kind, exif=turned)
    lists = coco_lists([stored])
    shown_masks = [
        np.asarray(Image.fromarray(s.mask).transpose(TURNS[orientation]))
        if orientation > 1
        else s.mask
        for s in stored.subjects
    ]
    if drawn_on == "shown":
        shown = [
            type(s)(label=s.label, mask=m)
            for s, m in zip(stored.subjects, shown_masks, strict=True)
        ]
        flat = Image.new("RGB", (stored.picture.height, stored.picture.width))
        scene = Scene(number=1, picture=flat, subjects=tuple(shown), caption="")
        lists = coco_lists([scene])
    (record,), skipped = converted(tmp_path, lists)
    checked = check(record)
    assert skipped == [] and isinstance(checked, Record)
    for entity, mask in zip(checked.entities or (), shown_masks, strict=True):
        assert np.array_equal(mask_of(entity), mask)
        height, width = mask.shape
        x1, y1, x2, y2 = (
            round(v * s) for v, s in zip(entity.box_xyxy, (width, height) * 2, strict=True)
        )
        inside = np.zeros_like(mask)
        inside[y1:y2, x1:x2] = True
        assert (mask & inside).sum() == mask.sum() and mask[y1].any() and mask[:, x1].any()


def test_pictures_in_another_resolution(tmp_path: Path) -> None:
    (scene,) = make_scenes(1)
    scene.picture.resize((80, 60)).save(tmp_path / f"{1:012d}.jpg")
    (record,), skipped = converted(tmp_path, coco_lists([scene]))
    assert skipped == [] and isinstance(check(record), Record)
    assert [mask_of(e).shape for e in record.entities or ()] == [(60, 80)] * 2
    scene.picture.resize((80, 80)).save(tmp_path / f"{1:012d}.jpg")
    records, (left_out,) = converted(tmp_path, coco_lists([scene]))
    assert records == [] and left_out.reason == "picture of other proportions than listed"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "category": ({"category_id": 99}, "unknown category"),
    "no box": ({"bbox": None}, "box is not four numbers"),
    "text in the box": ({"bbox": [0, 0, "9", 9]}, "box is not four numbers"),
    "nan": ({"bbox": [0, 0, float("nan"), 9]}, "box is not four numbers"),
    "no width": ({"bbox": [10, 10, 0, 20]}, "box outside the picture"),
    "far away": ({"bbox": [500, 10, 20, 20]}, "box outside the picture"),
    "two points": ({"segmentation": [[1, 1, 2, 2]]}, "polygon of fewer than three points"),
    "odd": ({"segmentation": [[1, 1, 2, 2, 3, 3, 4]]}, "polygon of fewer than three points"),
    "huge": ({"segmentation": [[1, 1, 2, 2, 1e9, 3]]}, "polygon outside the picture"),
    "not numbers": ({"segmentation": [[1, 1, 2, 2, None, 3]]}, "polygon is not numbers"),
    "other size": ({"segmentation": {"size": [9, 9], "counts": [81]}},
                   "run lengths of another size"),
    "too many": ({"segmentation": {"size": [120, 160], "counts": [19201]}},
                 "run lengths of another size"),
    "broken text": ({"segmentation": {"size": [120, 160], "counts": "~~~"}}, "unreadable mask"),
    "empty": ({"segmentation": {"size": [120, 160], "counts": [19200]}}, "empty mask"),
    "text": ({"segmentation": "dog"}, "segmentation of another kind"),
}  # fmt: skip


@pytest.mark.parametrize("change, reason", WRONG.values(), ids=WRONG)
def test_a_wrong_annotation_is_listed_and_the_others_stay(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    scenes = make_scenes(1)
    save_pictures(scenes, tmp_path)
    lists = coco_lists(scenes)
    lists["annotations"][0] |= change
    (record,), (left_out,) = converted(tmp_path, lists)
    assert asdict(left_out) == {"where": "annotation 1", "reason": reason}
    assert [e.label for e in record.entities or ()] == [scenes[0].subjects[1].label]


def test_annotations_of_no_picture_and_pictures_of_no_size(tmp_path: Path) -> None:
    scenes = make_scenes(3)
    lists = coco_lists(scenes)
    del lists["images"][0]
    del lists["images"][0]["width"]
    records, skipped = converted(tmp_path, lists)
    assert [record.key for record in records] == ["coco-000000000003"]
    assert [each.reason for each in skipped] == [
        "picture not listed", "image without id, size or name",
    ]  # fmt: skip


@pytest.mark.parametrize("content", ["[]", "{", '{"images": [], "annotations": [1]}', "null"])
def test_a_file_of_another_kind_ends_in_a_sentence(tmp_path: Path, content: str) -> None:
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"^--annotations: expected .*\. \w+ the file"):
        list(convert_coco(path, tmp_path))
    with pytest.raises(FileNotFoundError, match="where nothing is"):
        list(convert_coco(tmp_path / "none.json", tmp_path))
