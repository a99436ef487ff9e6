"""A person's own cut-outs as records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from annotated_scenes import SUBJECTS
from converted_records import sorted_out
from PIL import Image

from training.__main__ import main
from training.curation.check import check
from training.curation.convert.cutouts import convert_cutouts
from training.curation.record import Record
from training.curation.record_masks import pixels_of
from training.dataset.catalogue import open_catalogue
from training.dataset.layout import decode_sample


def test_cutouts_are_named_by_folder_or_file(tmp_path: Path) -> None:
    (tmp_path / "rex 2").mkdir()
    owl = Image.open(SUBJECTS / "owl.png").convert("RGBA")
    for name in ("teddy_bear_01.png", "teddy_bear_02.webp", "rex 2/1.png", "rex 2/2.png"):
        owl.save(tmp_path / name, lossless=True)
    (tmp_path / "teddy_bear_01.txt").write_text("a brown teddy bear\n")
    records, skipped = sorted_out(convert_cutouts(tmp_path))
    assert skipped == []
    alpha = np.asarray(owl.getchannel("A")) >= 128
    for record in records:
        (entity,) = record.entities or ()
        assert entity.mask is not None and np.array_equal(pixels_of(entity.mask), alpha)
        assert record.caption is not None and entity.span is not None
        assert record.caption[slice(*entity.span)] == entity.label
        assert isinstance(check(record), Record)
    identities = [entity.identity for record in records for entity in record.entities or ()]
    assert identities == ["rex 2", "rex 2", "teddy bear", "teddy bear"]
    captions = [record.caption for record in records]
    assert captions == ["a photo of a rex"] * 2 + ["a brown teddy bear", "a photo of a teddy bear"]
    assert len({record.key for record in records}) == 4
    (first, *_), _ = sorted_out(convert_cutouts(tmp_path, caption=""))
    assert first.caption is None


def test_what_is_no_cutout_is_listed(tmp_path: Path) -> None:
    owl = Image.open(SUBJECTS / "owl.png").convert("RGBA")
    owl.convert("RGB").save(tmp_path / "a.png")
    Image.new("RGBA", (64, 64), (0, 0, 0, 255)).save(tmp_path / "b.png")
    Image.new("RGBA", (64, 64)).save(tmp_path / "c.png")
    owl.convert("RGB").save(tmp_path / "d.jpg")
    (tmp_path / "e.png").write_bytes(b"")
    (tmp_path / "f.txt").write_text("a text without a picture")
    owl.save(tmp_path / "007.png")
    owl.save(tmp_path / "owl.png")
    owl.save(tmp_path / "owl.webp")
    records, skipped = sorted_out(convert_cutouts(tmp_path))
    assert len({record.key for record in records}) == 2
    assert {each.where: each.reason for each in skipped} == {
        "a.png": "no transparency", "b.png": "no transparency",
        "c.png": "empty or tiny alpha channel",
        "d.jpg": "no PNG, WebP or TIFF file", "e.png": "unreadable picture",
        "f.txt": "no PNG, WebP or TIFF file", "007.png": "name without a label",
    }  # fmt: skip
    with pytest.raises(
        ValueError, match=r"^--folder: expected cut-outs, got an empty .*\. Put PNG"
    ):
        list(convert_cutouts(_empty(tmp_path)))
    with pytest.raises(FileNotFoundError, match=r"^--folder: expected a folder of cut-outs"):
        list(convert_cutouts(tmp_path / "nothing"))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_the_command_s_list_builds_shards_that_training_reads(tmp_path: Path) -> None:
    folder, out = tmp_path / "mine" / "owl", tmp_path / "set"
    folder.mkdir(parents=True)
    owl = Image.open(SUBJECTS / "owl.png").convert("RGBA")
    for number in range(3):
        canvas = Image.new("RGBA", (300, 300))
        canvas.paste(owl.resize((200, 200 - 10 * number)), (20 * number, 40))
        canvas.save(folder / f"{number}.png")
    listed = tmp_path / "mine.jsonl"
    main(["data", "convert", "cutouts", "--folder", str(tmp_path / "mine"), "--out", str(listed),
          "--caption", "one {label} on white"])  # fmt: skip
    main(["data", "build", "--pictures", str(listed), "--out", str(out),
          "--set", "thresholds.min_side=256"])  # fmt: skip
    catalogue = open_catalogue(out / "train", tmp_path / "index")
    assert catalogue.counts == [3] and list(catalogue.views) == ["owl"]
    for row in range(3):
        sample = decode_sample(*catalogue.read(0, row))
        assert sample.caption == "one owl on white"
        (entity,) = sample.entities
        assert (sample.pixels[~entity.mask] > 100).all(), "what was transparent is white"
        assert entity.label == "owl" and 0.05 < entity.mask.mean() < 0.5
