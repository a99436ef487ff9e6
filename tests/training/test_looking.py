"""`data stats` and `data inspect`: the numbers are the dataset's, the page has everything in it."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from annotated_scenes import coco_captions, coco_lists, make_scenes, save_pictures, write_json
from PIL import Image

from training.__main__ import main
from training.curation.convert.coco import convert_coco
from training.curation.filters import ENTITY_RULES, PICTURE_RULES
from training.curation.looking.drawing import COLOURS, Marked, draw
from training.curation.looking.page import RULES
from training.curation.looking.statistics import Statistics
from training.curation.record import FoundEntity, Record
from training.curation.record_masks import run_lengths

WICKED = "<script>alert(1)</script> & 'mug\""
VOID = {"meta", "img", "br", "rect"}


class Page(HTMLParser):
    """What a page is made of; fails where a tag is closed that is not open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.images: list[bytes] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert name not in ("href", "onload", "onerror")
            if name == "src":
                assert value is not None and value.startswith("data:image/jpeg;base64,")
                self.images.append(base64.b64decode(value.partition(",")[2], validate=True))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def full(box: tuple[float, float, float, float], label: str, **more: object) -> FoundEntity:
    mask = run_lengths(np.ones((120, 160), bool))
    return FoundEntity(label=label, box_xyxy=box, mask=mask, **more)  # type: ignore[arg-type]


def write_list(folder: Path, count: int = 12) -> list[Record]:
    """Pictures of which each filter takes something, as a list of records."""
    scenes = make_scenes(count)
    save_pictures(scenes, folder)
    lists = write_json(folder / "i.json", coco_lists(scenes))
    captions = write_json(folder / "c.json", coco_captions(scenes))
    good = full((0.0, 0.0, 0.5, 0.5), WICKED)
    thin = run_lengths(np.eye(120, 160, dtype=bool))
    added: dict[int, tuple[FoundEntity, ...]] = {
        1: (replace(good, is_group=True),),
        2: (replace(good, is_body_part=True),),
        3: (replace(good, score=0.1),),
        4: (full((0.0, 0.4, 1.0, 0.5), "rope"),),
        5: (full((0.0, 0.0, 0.1, 0.1), "dot"),),
        6: tuple(full((n / 8, 0.0, n / 8 + 0.125, 0.5), "cup") for n in range(6)),
        7: (replace(good, score=0.9),),
        8: (replace(good, box_xyxy=(0.5, 0.5, 1.0, 1.0), mask=thin),),
    }
    records = []
    for place, found in enumerate(convert_coco(lists, folder, captions)):
        assert isinstance(found, Record)
        entities = () if place == 9 else (good, *added.get(place, ()))
        records.append(replace(found, entities=entities, licence="CC0" if place % 2 else ""))
    path = folder / "r.jsonl"
    path.write_text("".join(record.to_json() + "\n" for record in records))
    (folder / f"{11:012d}.jpg").write_bytes(b"<html>")
    return records


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("looking")
    write_list(folder)
    out = folder / "out"
    main(["data", "build", "--pictures", str(folder / "r.jsonl"), "--out", str(out),
          "--set", "thresholds.min_side=100", "--set", "held_out=0.4"])  # fmt: skip
    return out


def inspected(data: Path, out: Path, *more: str) -> Page:
    main(["data", "inspect", "--data", str(data), "--out", str(out), *more])
    return Page(out.read_text(encoding="utf-8"))


def test_the_page_shows_samples_and_what_was_thrown_away(built: Path, tmp_path: Path) -> None:
    page = inspected(built, tmp_path / "page.html", "--samples", "5")
    report = json.loads((built / "work/report.json").read_text())
    assert report["pictures"]["kept"] == 8 and report["pictures"]["quarantined"] == 1
    for rule in (*PICTURE_RULES, *ENTITY_RULES):
        number = report["rules"][rule]["subjects"] or report["rules"][rule]["pictures"]
        assert (f"{RULES[rule]}: {number}" in page.text) == (number > 0)
        assert number > 0 or rule == "resolution"
    examples = sum(len(found["examples"]) for found in report["rules"].values())
    assert len(page.images) == 5 + examples
    for content in page.images:
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.size == (160, 120)
    assert page.tags["svg"] == 4 and page.tags["script"] == 0
    assert WICKED in page.text, "as text"
    assert "not a picture" in page.text and "begins 3c 68 74 6d 6c 3e" in page.text


def test_equal_seeds_draw_equal_pages(built: Path, tmp_path: Path) -> None:
    first, second, other = (
        inspected(built, tmp_path / f"{n}.html", "--samples", "3", "--seed", str(seed)).images[:3]
        for n, seed in enumerate((1, 1, 2))
    )
    assert first == second != other


def test_the_numbers_are_those_of_the_samples(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = tmp_path / "counts.json"
    main(["data", "stats", "--data", str(built), "--json", str(counts)])
    said = capsys.readouterr().out
    found = json.loads(counts.read_text())
    report = json.loads((built / "work/report.json").read_text())
    by_side = {side: each["samples"] for side, each in report["sides"].items()}
    assert found["samples"] == by_side and min(by_side.values()) > 0
    assert found["subjects"] == sum(each["subjects"] for each in report["sides"].values()) == 8
    assert found["boxes"] == {"1": 8} and found["labels"] == {WICKED.lower(): 8}
    assert found["areas"] == {"5": 8}, "a quarter of the picture: 5 times 5 %"
    assert sum(found["caption_words"].values()) == 8 and found["in_caption"] == 0
    assert found["small_sides"] == {"0": 8}
    assert "8 samples (" in said and "none stated" in said and "CC0" in said


def test_a_plain_folder_of_shards_has_numbers_and_samples(built: Path, tmp_path: Path) -> None:
    page = inspected(built / "train", tmp_path / "page.html")
    samples = json.loads((built / "work/report.json").read_text())["sides"]["train"]["samples"]
    assert f"(shards {samples})" in page.text and len(page.images) == samples
    assert "threw away" not in page.text


def test_a_build_that_kept_nothing_is_shown(tmp_path: Path) -> None:
    write_list(tmp_path, 10)
    out = tmp_path / "out"
    main(["data", "build", "--pictures", str(tmp_path / "r.jsonl"), "--out", str(out)])
    page = inspected(out, tmp_path / "page.html")
    assert page.text.count("0 samples") == 1 and f"{RULES['resolution']}: 10" in page.text
    for path in tmp_path.glob("*.jpg"):
        path.unlink()
    again = inspected(out, tmp_path / "page.html")
    assert again.images == [] and "the picture cannot be read any more" in again.text


@pytest.mark.parametrize("action", ["stats", "inspect"])
def test_a_folder_without_shards_ends_in_a_sentence(tmp_path: Path, action: str) -> None:
    more = ["--out", str(tmp_path / "page.html")] if action == "inspect" else []
    with pytest.raises(SystemExit, match=r"--data: expected a folder of \.tar shards, got none"):
        main(["data", action, "--data", str(tmp_path), *more])
    assert not (tmp_path / "page.html").exists()


def test_masks_and_boxes_are_drawn_where_they_are() -> None:
    mask = np.zeros((100, 200), bool)
    mask[:, 100:] = True
    marked = Marked(text="half", box_xyxy=(0.5, 0.0, 1.0, 1.0), mask=mask)
    with Image.open(io.BytesIO(draw(Image.new("RGB", (200, 100)), [marked]))) as file:
        pixels = np.asarray(file.convert("RGB")).astype(int)
    assert pixels[50, 20].max() < 8, "outside stays black"
    assert np.abs(pixels[60, 150] - np.array(COLOURS[0]) * 0.45).max() < 12
    assert np.abs(pixels[60, 101] - np.array(COLOURS[0])).max() < 90, "the box's line"


def test_counts_of_a_sample() -> None:
    found = Statistics()
    entities = [{"label": "Dog", "box": [0, 0, 0.5, 0.1]}, {"label": "cat", "box": [0, 0, 1, 1]}]
    found.add("train", {"caption": "a dog runs", "entities": entities, "width": 700, "height": 300})
    assert found.boxes == {2: 1} and found.caption_words == {3: 1} and found.in_caption == 1
    assert found.areas == {1: 1, 19: 1} and found.small_sides == {256: 1}
    assert re.search(r"2 different, 1 of 2", "\n".join(found.lines()))
