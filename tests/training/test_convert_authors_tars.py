"""Shards of the authors' tool as records, and the list that the command writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from annotated_scenes import (
    Scene,
    authors_json,
    coco_lists,
    index_picture,
    jpeg,
    make_scenes,
    png,
    save_pictures,
    write_json,
    write_tar,
)
from converted_records import assert_true, sorted_out

from training.__main__ import main
from training.curation.check import check
from training.curation.convert.authors_tars import convert_authors_tars
from training.curation.record import Record


def authors_tar(path: Path, scenes: list[Scene], coco: bool = False) -> Path:
    members = []
    for scene in scenes:
        content = authors_json(scene)
        if coco:
            names = [s.label for s in scene.subjects]
            content = {"bboxes": [list(s.box) for s in scene.subjects], "cat_names": names}
        key = f"00{scene.number:07d}"
        members += [
            (f"{key}.jpg", jpeg(scene.picture)),
            (f"{key}.json", json.dumps(content).encode()),
            (f"{key}.png", png(index_picture(scene))),
            (f"{key}.txt", scene.caption.encode()),
        ]
    return write_tar(path, members)


@pytest.mark.parametrize("coco", [False, True], ids=["their tool", "COCO"])
def test_the_authors_tars(tmp_path: Path, coco: bool) -> None:
    scenes = make_scenes(4)
    records, skipped = sorted_out(
        convert_authors_tars([authors_tar(tmp_path / "7.tar", scenes, coco)])
    )
    assert skipped == [] and len(records) == 4
    for record, scene in zip(records, scenes, strict=True):
        assert_true(record, scene)
        assert record.caption == scene.caption
        assert {e.score for e in record.entities or ()} == {1.0 if coco else 0.71}
        assert all(
            scene.caption[slice(*e.span)] == e.label for e in record.entities or () if e.span
        )


def test_damaged_tars_yield_what_is_whole(tmp_path: Path) -> None:
    scenes = make_scenes(3)
    whole = authors_tar(tmp_path / "1.tar", scenes)
    cut = tmp_path / "2.tar"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    records, (left_out,) = sorted_out(convert_authors_tars([cut, whole]))
    assert left_out.where == "2.tar" and left_out.reason.startswith("damaged tar")
    assert len(records) == 4 and len({record.key for record in records}) == 4
    text = tmp_path / "3.tar"
    text.write_text("<html>404</html>")
    assert [each.where for each in sorted_out(convert_authors_tars([text]))[1]] == ["3.tar"]


def encoded(content: object) -> bytes:
    return json.dumps(content).encode()


def test_wrong_samples_of_the_authors_are_listed(tmp_path: Path) -> None:
    (scene,) = make_scenes(1)
    picture, indices = jpeg(scene.picture), png(index_picture(scene))
    good = authors_json(scene)

    def with_subject(**change: object) -> dict[str, object]:
        background, first, second = good["mask"]
        return {**good, "mask": [background, {**first, **change}, second]}

    samples = {
        "a": ({"jpg": picture, "png": indices}, "json missing"),
        "b": ({"jpg": picture, "json": encoded(good)}, "png missing"),
        "c": ({"json": b"{}", "png": indices}, "picture missing"),
        "d": ({"jpg": picture, "json": b"{", "png": indices}, "unreadable json"),
        "e": ({"jpg": picture, "json": b"[]", "png": indices}, "json of another kind"),
        "f": ({"jpg": picture, "json": encoded(good), "png": b"x"}, "unreadable mask"),
        **{name: ({"jpg": picture, "png": indices, "json": encoded(with_subject(**change))},
                  reason)
           for name, change, reason in (
               ("g", {"label": " "}, "empty label"),
               ("h", {"box": [1, 2, 3]}, "box is not four numbers"),
               ("i", {"logit": "high"}, "box or score is not a number"),
               ("j", {"box": [900, 1, 950, 9]}, "box outside the picture"),
               ("k", {"value": 200}, "empty mask"),
               ("l", {"value": 0}, "index is not 1 or more"))},
    }  # fmt: skip
    members = [(f"{key}.{suffix}", part) for key, (parts, _) in samples.items()
               for suffix, part in parts.items()]  # fmt: skip
    records, skipped = sorted_out(convert_authors_tars([write_tar(tmp_path / "0.tar", members)]))
    assert [each.reason for each in skipped] == [reason for _, reason in samples.values()]
    assert [len(r.entities or ()) for r in records] == [1] * 6, "the other subject stays"


def test_the_command_writes_records_and_what_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = make_scenes(3)
    save_pictures(scenes, tmp_path)
    lists = coco_lists(scenes)
    lists["annotations"][0]["category_id"] = 99
    annotations = write_json(tmp_path / "instances.json", lists)
    out = tmp_path / "coco.jsonl"
    arguments = ["data", "convert", "coco", "--annotations", str(annotations)]
    main([*arguments, "--pictures", str(tmp_path), "--out", str(out)])
    said = capsys.readouterr().out
    assert "3 pictures, 5 subjects, 5 masks" in said
    assert "left out: 1 x unknown category, first annotation 1" in said
    records = [Record.from_json(line) for line in out.read_text().splitlines()]
    assert [record.to_json() for record in records] == out.read_text().splitlines()
    assert all(isinstance(check(record), Record) for record in records)
    (left_out,) = (tmp_path / "coco.skipped.jsonl").read_text().splitlines()
    assert json.loads(left_out) == {"where": "annotation 1", "reason": "unknown category"}


def test_two_pictures_of_one_key_and_no_pictures_write_nothing(tmp_path: Path) -> None:
    scenes = make_scenes(1)
    tar = authors_tar(tmp_path / "0.tar", [scenes[0], scenes[0]])
    other = write_tar(tmp_path / "1.tar", [("x.txt", b"x")])
    for tars, message in (([tar, tar], "key: expected one picture of each name"),
                          ([other], "pictures: expected at least one, got none")):  # fmt: skip
        with pytest.raises(SystemExit, match=message):
            main(
                ["data", "convert", "authors", *map(str, tars), "--out", str(tmp_path / "o.jsonl")]
            )
        assert sorted(path.name for path in tmp_path.iterdir()) == ["0.tar", "1.tar"]
