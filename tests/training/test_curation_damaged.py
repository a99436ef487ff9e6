"""Damaged and odd files: none stops a build, each is listed with its reason or mended and told."""

from __future__ import annotations

import io
import json
import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from damaged_pictures import MENDED, UNUSABLE, encoded
from PIL import Image, ImageOps

from training.__main__ import main
from training.curation.check import check
from training.curation.pictures import MAX_BYTES, REASONS, load
from training.curation.record import PictureSource, Quarantined, Record
from training.dataset.layout import decode_sample


def source(folder: Path, name: str, content: bytes) -> PictureSource:
    (folder / name).write_bytes(content)
    return PictureSource(path=str(folder / name))


def checked(picture: PictureSource) -> Record | Quarantined:
    return check(Record(key="a", picture=picture))


def as_viewers_show_it(content: bytes) -> np.ndarray:
    """(H, W, 3) by Pillow's own functions: turned, on white."""
    with Image.open(io.BytesIO(content)) as file:
        file.load()
        if file.mode.startswith("I;16"):
            grey = np.asarray(file) >> 8
            return np.repeat(grey[..., None], 3, 2).astype(np.uint8)
        shown = ImageOps.exif_transpose(file)
        if not shown.has_transparency_data:
            return np.asarray(shown.convert("RGB"))
        rgba = shown.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_damaged_file_has_its_reason(tmp_path: Path, kind: str) -> None:
    name, content, reason = UNUSABLE[kind]
    found = checked(source(tmp_path, name, content))
    assert isinstance(found, Quarantined) and found.reason == reason, found
    assert reason in REASONS


@pytest.mark.parametrize("kind", MENDED)
def test_an_odd_file_is_shown_as_viewers_show_it(tmp_path: Path, kind: str) -> None:
    name, content, told = MENDED[kind]
    picture = source(tmp_path, name, content)
    found = checked(picture)
    assert isinstance(found, Record) and found.adjustments == told, found
    expected = as_viewers_show_it(content)
    assert (found.height, found.width) == expected.shape[:2]
    shown = np.asarray(load(picture), dtype=int)
    assert np.abs(shown - expected).max() <= 1
    assert shown.std() > 20, "not one colour"


def test_places_without_a_picture(tmp_path: Path) -> None:
    whole = encoded("JPEG")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with (tmp_path / "large.jpg").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with tarfile.open(tmp_path / "cut.tar", "w") as archive:
        for name in ("a.jpg", "b.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(whole)
            archive.addfile(info, io.BytesIO(whole))
    content = (tmp_path / "cut.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: content.index(b"b.jpg") + 512 + len(whole) // 2])
    (tmp_path / "text.tar").write_text("<html>404</html>")
    reasons = {
        ("nowhere.jpg", ""): "missing",
        ("link.jpg", ""): "missing",
        ("folder.jpg", ""): "unreadable",
        ("large.jpg", ""): "too many bytes",
        ("cut.tar", "c.jpg"): "missing",
        ("cut.tar", "b.jpg"): "unreadable",
        ("text.tar", "a.jpg"): "missing",
    }
    for (name, member), reason in reasons.items():
        found = checked(PictureSource(path=str(tmp_path / name), member=member))
        assert isinstance(found, Quarantined) and found.reason == reason, (name, member, found)
    good = checked(PictureSource(path=str(tmp_path / "cut.tar"), member="a.jpg"))
    assert isinstance(good, Record)


def write_all(folder: Path) -> None:
    """Every kind in a folder of its own; what can be used with a caption, a subject and a mask."""
    for number, (name, content, _) in enumerate((*UNUSABLE.values(), *MENDED.values())):
        place = folder / f"{number:02d}"
        place.mkdir(parents=True)
        picture = place / name
        picture.write_bytes(content)
        if number < len(UNUSABLE):
            continue
        height, width = as_viewers_show_it(content).shape[:2]
        Image.new("L", (width, height), 255).save(place / "mask.png")
        subject = {"label": "ramp", "box": [0.1, 0.1, 0.8, 0.8], "mask": "mask.png"}
        described = {"caption": f"a ramp, number {number}", "subjects": [subject]}
        picture.with_suffix(".json").write_text(json.dumps(described))


def samples_of(shards: Path) -> dict[str, dict[str, bytes]]:
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    for path in shards.glob("*.tar"):
        with tarfile.open(path) as archive:
            for member in archive:
                key, _, suffix = member.name.partition(".")
                file = archive.extractfile(member)
                assert file is not None
                found[key][suffix] = file.read()
    return found


def test_a_build_lists_them_all_and_keeps_what_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(UNUSABLE) + len(MENDED) >= 75
    write_all(tmp_path / "pictures")
    out = tmp_path / "out"
    main(["data", "build", "--pictures", str(tmp_path / "pictures"), "--out", str(out),
          "--set", "thresholds.min_side=0"])  # fmt: skip
    faults = [json.loads(line) for line in (out / "work/faults.jsonl").read_text().splitlines()]
    reasons = {Path(fault["picture"]["path"]).parent.name: fault["reason"] for fault in faults}
    assert reasons == {f"{n:02d}": reason for n, (_, _, reason) in enumerate(UNUSABLE.values())}
    assert all(fault["kind"] == "quarantined" for fault in faults)
    report = json.loads((out / "work/report.json").read_text())
    assert report["pictures"]["kept"] == len(MENDED)
    told = report["adjustments"]
    for text in {text for _, _, texts in MENDED.values() for text in texts}:
        assert told[text] == sum(text in texts for _, _, texts in MENDED.values())
    samples = {key: decode_sample(key, raw) for key, raw in samples_of(out / "train").items()}
    by_number = {int(s.caption.rpartition(" ")[2]): s for s in samples.values()}
    first = len(UNUSABLE)
    contents = [content for _, content, _ in MENDED.values()]
    missing = {n for n in range(len(contents)) if first + n not in by_number}
    assert len(missing) == report["pictures"]["duplicates"] == len(contents) - len(set(contents))
    for number, content in enumerate(contents):
        if number in missing:
            continue
        expected = as_viewers_show_it(content).astype(int)
        pixels = by_number[first + number].pixels
        assert pixels.shape == expected.shape
        assert np.abs(pixels - expected).mean() < 8, number
