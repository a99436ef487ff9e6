"""Where pictures come from, and what of a source cannot be read."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from test_data_shards import write_tar

from training.curation.check import check
from training.curation.reading import key_of, read_source
from training.curation.record import ALPHA, NO_BOX, PictureSource, Quarantined, Record


def picture_bytes(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), shade, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def kept(source: Path) -> list[Record]:
    found = list(read_source(source))
    assert all(isinstance(each, Record) for each in found), found
    return [each for each in found if isinstance(each, Record)]


def left_out(source: Path) -> list[tuple[str, str]]:
    return [(q.reason, q.detail) for q in read_source(source) if isinstance(q, Quarantined)]


def test_a_folder_with_captions_and_descriptions(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a.jpg", "deep/a.jpg", "deep/b.JPG"):
        (tmp_path / name).write_bytes(picture_bytes(3))
    (tmp_path / "a.txt").write_text("a dog \n")
    subjects = [{"label": "dog", "box": [0, 0, 0.5, 1], "identity": "rex"}]
    entry = {"subjects": subjects, "licence": "CC0", "provenance": {"by": "me"}}
    (tmp_path / "deep" / "a.json").write_text(json.dumps(entry))
    first, second, third = kept(tmp_path)
    assert (first.caption, first.entities) == ("a dog", None)
    assert second.licence == "CC0" and second.provenance == {"name": "deep/a.jpg", "by": "me"}
    assert second.entities is not None and second.caption is None
    assert second.entities[0].identity == "rex" and second.entities[0].mask_source == ""
    assert len({each.key for each in (first, second, third)}) == 3
    assert kept(tmp_path) == [first, second, third], "the same at every run"


def test_what_a_folder_has_besides_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture_bytes(3))
    (tmp_path / "a.json").write_text('{"subjects": [{"box": [0, 0, 1, 1]}]}')
    (tmp_path / "b.jpg").write_bytes(picture_bytes(3))
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "gone.txt").write_text("no picture")
    (tmp_path / "notes.docx").write_text("?")
    (tmp_path / ".hidden").write_text("?")
    reasons = sorted(reason for reason, _ in left_out(tmp_path))
    assert reasons == ["annotations", "annotations", "missing", "not a picture"]


def test_a_list_of_pictures_and_of_records(tmp_path: Path) -> None:
    listed = tmp_path / "list.jsonl"
    subjects = [{"label": "dog"}, {"label": "cat", "mask": "m.png"}]
    record = Record(key="k", picture=PictureSource(path="x.png"), caption="x")
    lines = [
        json.dumps({"picture": "a.png", "caption": "a dog", "subjects": subjects}),
        "",
        record.to_json(),
        '{"picture": 3}',
        "nonsense",
    ]
    listed.write_text("\n".join(lines))
    found = list(read_source(listed))
    first, second = found[:2]
    assert isinstance(first, Record) and first.picture.path == str(tmp_path / "a.png")
    assert first.entities is not None
    assert [e.mask_source for e in first.entities] == [ALPHA, str(tmp_path / "m.png")]
    assert {e.box_xyxy for e in first.entities} == {NO_BOX}
    assert second == record
    assert [q.reason for q in found[2:] if isinstance(q, Quarantined)] == ["annotations"] * 2


def test_tars_as_img2dataset_writes_them(tmp_path: Path) -> None:
    members = {
        "000.jpg": picture_bytes(9), "000.txt": b"alt text",
        "000.json": json.dumps({"caption": "worse", "url": "u", "key": "000"}).encode(),
        "001.jpg": picture_bytes(8), "001.json": b'{"caption": "its caption"}',
        "002.jpg": picture_bytes(7),
    }  # fmt: skip
    write_tar(tmp_path / "00000.tar", members)
    write_tar(tmp_path / "00001.tar", {"000.jpg": picture_bytes(6), "000.json": b"{"})
    found = [each for each in read_source(tmp_path) if isinstance(each, Record)]
    assert [each.caption for each in found] == ["alt text", "its caption", None]
    assert found[0].provenance == {"name": "00000/000.jpg", "url": "u"}
    checked = [check(record) for record in found]
    assert [getattr(each, "width", None) for each in checked] == [30, 30, 30]
    assert [reason for reason, _ in left_out(tmp_path)] == ["annotations"]


def test_a_tar_that_is_cut_short_gives_what_is_whole(tmp_path: Path) -> None:
    members = {f"{number:03d}.jpg": picture_bytes(number) for number in range(5)}
    path = write_tar(tmp_path / "a.tar", members)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"003.jpg") + 600])
    found = [each for each in read_source(path) if isinstance(each, Record)]
    checked = [check(record) for record in found]
    usable = sum(isinstance(each, Record) for each in checked)
    assert usable == 3
    reasons = {each.reason for each in checked if isinstance(each, Quarantined)}
    assert reasons <= {"unreadable"}
    assert left_out(path) or reasons, "the damage is told"
    (tmp_path / "b.tar").write_bytes(b"no tar at all" * 100)
    assert [reason for reason, _ in left_out(tmp_path / "b.tar")] == ["unreadable"]


def test_a_table_of_paths(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture_bytes(1))
    table = {"path": ["a.jpg", "b.jpg"], "caption": ["a dog", None], "license": ["CC0", ""]}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    first, second = kept(tmp_path / "t.parquet")
    assert (first.caption, first.licence, second.caption) == ("a dog", "CC0", None)
    assert isinstance(check(first), Record)
    assert check(second) == Quarantined(
        key=second.key, picture=second.picture, reason="missing", detail=second.picture.path
    )
    pq.write_table(pa.table({"url": ["x"]}), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"^--pictures: expected a column of paths \(path, "):
        list(read_source(tmp_path / "none.parquet"))


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--pictures: expected a folder, or a \.tar.*nothing is"):
        read_source(tmp_path / "nothing.tar")


def test_keys_are_plain_and_never_the_same() -> None:
    names = ["a.jpg", "a.png", "b/a.jpg", "b_a.jpg", "ü.jpg", "." * 9 + "x.jpg", "a" * 300 + ".jpg"]
    keys = [key_of(name) for name in names]
    assert len(set(keys)) == len(names)
    for key in keys:
        assert key.isascii() and "." not in key and "/" not in key and len(key) < 80


def test_records_travel_as_json(tmp_path: Path) -> None:
    record = Record(key="k", picture=PictureSource(path="x", member="y"), provenance={"a": "b"})
    assert Record.from_json(record.to_json()) == record
    filled = replace(record, adjustments=("16 bits to 8",), caption="ü", captioned=True)
    assert Record.from_json(filled.to_json()) == filled
