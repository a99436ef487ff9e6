"""The check stage: orientations, what is mended, what is quarantined."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from training.curation.check import check
from training.curation.record import FoundEntity, PictureSource, Quarantined, Record, RunLengths
from training.curation.record_masks import area_of, pixels_of, run_lengths
from training.dataset.bad_sample import BadSample

PIXELS = np.asarray(
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)).resize((80, 60))
)
MASK = np.zeros((60, 80), bool)
MASK[5:20, 10:30] = True
BOX = (10 / 80, 5 / 60, 30 / 80, 20 / 60)


def turned_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def record_of(path: Path) -> Record:
    return Record(key="a", picture=PictureSource(path=str(path)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_picture_boxes_and_masks_are_turned_alike(orientation: int, tmp_path: Path) -> None:
    exif = turned_exif(orientation)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    entity = FoundEntity(label="dog", box_xyxy=BOX, mask=run_lengths(MASK))
    given = replace(record_of(tmp_path / "a.png"), entities=(entity,), annotated_as_stored=True)
    record = check(given)
    assert isinstance(record, Record) and record.entities is not None
    buffer = BytesIO()
    Image.fromarray(MASK.astype(np.uint8) * 255).save(buffer, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(buffer))) > 0
    mask = record.entities[0].mask
    assert mask is not None
    np.testing.assert_array_equal(pixels_of(mask), expected)
    assert (record.height, record.width) == expected.shape
    rows, columns = np.nonzero(expected)
    ends = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    scale = np.array([record.width, record.height] * 2)
    np.testing.assert_allclose(record.entities[0].box_xyxy, np.array(ends) / scale)
    assert check(record) == record, "turned once"


def test_what_is_mended_is_told(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(PIXELS).save(tmp_path / "named.jpg", "PNG")
    told = [
        getattr(check(record_of(tmp_path / name)), "adjustments", None)
        for name in ("cmyk.jpg", "deep.png", "named.jpg")
    ]
    assert told == [("CMYK to RGB",), ("16 bits to 8",), ("PNG under another suffix",)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "missing"),
        (b"", "empty"),
        (b"<html>", "not a picture"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 40, "damaged"),
    ],
)
def test_what_cannot_be_used_has_a_reason(
    content: bytes | None, reason: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    found = check(record_of(tmp_path / "a.png"))
    assert isinstance(found, Quarantined) and found.reason == reason


@pytest.mark.parametrize("box", [(0.5, 0, 0.4, 1), (0, 0, 1.2, 1)])
def test_a_box_outside_is_quarantined(
    box: tuple[float, float, float, float], tmp_path: Path
) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    entities = (FoundEntity(label="dog", box_xyxy=box),)
    found = check(replace(record_of(tmp_path / "a.png"), entities=entities))
    assert isinstance(found, Quarantined) and found.reason == "annotations"


def test_run_lengths_are_those_of_coco_s_tools() -> None:
    """What they write is read, what is broken is refused."""
    rng = np.random.default_rng(1)
    for number in range(60):
        height, width = rng.integers(1, 90, 2)
        mask = rng.random((height, width)) < (0, 0.01, 0.5, 0.99, 1)[number % 5]
        stored = run_lengths(mask)
        np.testing.assert_array_equal(pixels_of(stored), mask)
        assert area_of(stored) == mask.sum()
    good = run_lengths(MASK).counts
    for broken in ("", "0", "zzzz", "\x00", "ooooooooooo0", good[:-1], good + "5", "ü"):
        with pytest.raises(BadSample, match=r"^unreadable mask$"):
            pixels_of(RunLengths(height=60, width=80, counts=broken))
