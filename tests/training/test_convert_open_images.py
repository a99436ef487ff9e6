"""OpenImages' files as records: boxes find their masks, what is wrong is listed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from annotated_scenes import (
    Scene,
    make_scenes,
    save_pictures,
    write_rows,
)
from converted_records import assert_true, sorted_out
from PIL import ExifTags, Image

from training.__main__ import main
from training.curation.check import check
from training.curation.convert.open_images import BODY_PARTS, convert_open_images
from training.curation.record import Record
from training.curation.record_masks import pixels_of

MIDS = {"crab": "/m/0n28_", "guitar": "/m/0342h", "owl": "/m/09d5_", "hamburger": "/m/0cdn1",
        "teddy bear": "/m/0kmg4", "vase lamp": "/m/0dtln", "human eye": "/m/014sv8"}  # fmt: skip


def open_images(folder: Path, scenes: list[Scene]) -> dict[str, Path]:
    """The published files: boxes, names of classes, masks as files, licences."""
    boxes, masks = [], []
    (folder / "masks" / "0").mkdir(parents=True)
    for scene in scenes:
        image = f"{scene.number:016x}"
        height, width = scene.subjects[0].mask.shape
        for number, subject in enumerate(scene.subjects):
            x1, y1, x2, y2 = subject.box
            mid = MIDS[subject.label]
            sides = {"XMin": x1 / width, "XMax": x2 / width,
                     "YMin": y1 / height, "YMax": y2 / height}  # fmt: skip
            flags = dict.fromkeys(
                ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"), 0
            )
            boxes.append({"ImageID": image, "Source": "xclick", "LabelName": mid, "Confidence": 1,
                          **sides, **flags})  # fmt: skip
            name = f"{image}_{mid[1:].replace('/', '')}_{number:08x}.png"
            Image.fromarray(subject.mask).save(folder / "masks" / "0" / name)
            rounded = {f"Box{side}": f"{value:.6f}" for side, value in sides.items()}
            masks.append({"MaskPath": name, "ImageID": image, "LabelName": mid,
                          "BoxID": f"{number:08x}", **rounded, "PredictedIoU": 0.9,
                          "Clicks": "0.95498 0.65197 1;0.89370 0.56579 1"})  # fmt: skip
    classes = folder / "class-descriptions-boxable.csv"
    classes.write_text("".join(f"{mid},{name.capitalize()}\n" for name, mid in MIDS.items()))
    images = [
        {"ImageID": f"{s.number:016x}", "Subset": "train", "License": "by/2.0"} for s in scenes
    ]
    save_pictures(scenes, folder / "pictures", "{:016x}.jpg")
    return {
        "boxes": write_rows(folder / "boxes.csv", boxes),
        "classes": classes,
        "pictures": folder / "pictures",
        "masks": write_rows(folder / "masks.csv", masks[::-1]),  # theirs is in another order, too
        "mask_pictures": folder / "masks",
        "images": write_rows(folder / "images.csv", images),
    }


def test_open_images_boxes_find_their_masks(tmp_path: Path) -> None:
    scenes = make_scenes(4)
    records, skipped = sorted_out(convert_open_images(**open_images(tmp_path, scenes)))
    assert skipped == [] and len(records) == 4
    for record, scene in zip(records, scenes, strict=True):
        assert_true(record, scene)
        assert record.key == f"openimages-{scene.number:016x}" and record.licence == "by/2.0"


def edit(path: Path, line: int, old: str, new: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new, 1)
    path.write_text("".join(lines))


def test_groups_and_body_parts_are_marked(tmp_path: Path) -> None:
    scenes = make_scenes(1)
    files = open_images(tmp_path, scenes)
    edit(files["boxes"], 1, ",0,0,0,0,0", ",0,0,1,0,0")
    edit(files["boxes"], 2, MIDS[scenes[0].subjects[1].label], MIDS["human eye"])
    (record,), skipped = sorted_out(convert_open_images(**files))
    group, part = record.entities or ()
    assert group.is_group and not group.is_body_part
    assert part.is_body_part and not part.is_group and part.label == "human eye"
    assert part.mask is None, "the mask is another label's"
    assert [each.reason for each in skipped] == ["mask without a box"]
    assert len(BODY_PARTS) == 13


def test_open_images_of_which_parts_lack(tmp_path: Path) -> None:
    scenes = make_scenes(3)
    files = open_images(tmp_path, scenes)
    names = sorted((tmp_path / "masks" / "0").iterdir())
    names[0].unlink()
    names[1].write_bytes(b"no picture")
    Image.new("1", (160, 120)).save(names[2])
    Image.new("1", (99, 120), 1).save(names[3])
    edit(files["boxes"], 5, MIDS[scenes[1].subjects[2].label], "/m/unknown")
    records, skipped = sorted_out(convert_open_images(**files))
    assert len(records) == 3, "pictures stay"
    assert sorted(each.reason for each in skipped) == [
        "empty mask", "mask file missing", "mask of other proportions", "mask without a box",
        "unknown category", "unreadable mask",
    ]  # fmt: skip
    alone, none = sorted_out(
        convert_open_images(files["boxes"], files["classes"], files["pictures"])
    )
    assert len(alone) == 3 and all(e.mask is None for r in alone for e in r.entities or ())
    assert [each.reason for each in none] == ["unknown category"]


def test_open_images_masks_of_another_resolution(tmp_path: Path) -> None:
    scenes = make_scenes(2)
    files = open_images(tmp_path, scenes)
    for path in files["pictures"].iterdir():
        Image.open(path).resize((320, 240)).save(path)
    records, skipped = sorted_out(convert_open_images(**files))
    assert skipped == []
    for record, scene in zip(records, scenes, strict=True):
        assert isinstance(check(record), Record)
        for entity, subject in zip(record.entities or (), scene.subjects, strict=True):
            assert entity.mask is not None
            assert np.array_equal(pixels_of(entity.mask)[::2, ::2], subject.mask)


def test_open_images_masks_drawn_on_what_is_shown(tmp_path: Path) -> None:
    (scene,) = make_scenes(1)
    files = open_images(tmp_path, [scene])
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 8  # shown = stored, a quarter to the left
    stored = scene.picture.transpose(Image.Transpose.ROTATE_270)
    stored.save(files["pictures"] / f"{1:016x}.jpg", exif=turned)
    (record,), skipped = sorted_out(convert_open_images(**files))
    assert skipped == []
    assert_true(record, scene)


@pytest.mark.parametrize(
    "name, line, old, new, message",
    [
        ("boxes", 0, "XMin", "Left", r"^--boxes: expected the columns .* without XMin\. Take"),
        ("masks", 0, "MaskPath", "File", r"^--masks: expected the columns .* without MaskPath\."),
        ("boxes", 2, ",0,0,0,0,0", "", r"^--boxes: expected whole rows, got .* in line 3\. Fetch"),
        ("boxes", 1, f"{1:016x}", f"{2:016x}",
         r"^--boxes: expected all rows of a picture after each other, got .* in two places\. Sort"),
        ("classes", 0, ",", ",a,", r"^--classes: expected two columns"),
    ],
)  # fmt: skip
def test_other_files_end_in_a_sentence(
    tmp_path: Path, name: str, line: int, old: str, new: str, message: str
) -> None:
    files = open_images(tmp_path, make_scenes(2))
    edit(files[name], line, old, new)
    if name == "classes":
        edit(files[name], 1, ",", ",a,")
    with pytest.raises(ValueError, match=message):
        list(convert_open_images(**files))


@pytest.mark.parametrize("name", ["boxes", "classes", "masks", "images"])
def test_a_file_that_is_no_table_ends_in_a_sentence(tmp_path: Path, name: str) -> None:
    files = open_images(tmp_path, make_scenes(1))
    for content in (b"\x89PNG\r\n\x1a\n\0\0", b"", b"<html>404</html>", b"a\0\nb,c,d\n"):
        files[name].write_bytes(content)
        with pytest.raises(ValueError, match=rf"^--{name}: expected"):
            list(convert_open_images(**files))
    files[name].unlink()
    with pytest.raises(FileNotFoundError, match=rf"^--{name}: expected a CSV file, got .* nothing"):
        list(convert_open_images(**files))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = open_images(tmp_path, make_scenes(3))
    out = tmp_path / "list" / "openimages.jsonl"
    named = [f"--{name.replace('_', '-')}={path}" for name, path in files.items()]
    main(["data", "convert", "open-images", *named, "--out", str(out)])
    assert "3 pictures, 6 subjects, 6 masks" in capsys.readouterr().out
    records = [Record.from_json(line) for line in out.read_text().splitlines()]
    assert all(Path(record.picture.path).is_absolute() for record in records)
    with pytest.raises(SystemExit, match="--masks: expected it together with --mask-pictures"):
        main(["data", "convert", "open-images", *named[:4], "--out", str(tmp_path / "o.jsonl")])
    assert not (tmp_path / "o.jsonl").exists()
