"""A build: what is in the shards, what is made anew after a change, and kills at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accelerate.state import AcceleratorState
from own_pictures import write_pictures
from PIL import Image
from training_runs import WarmRunner

from training.__main__ import main
from training.curation.build import Build, last_build, locked, retry
from training.curation.engine import run_here
from training.curation.reading import read_source
from training.curation.record import PictureSource, Record
from training.curation.settings import CurationSettings, with_settings
from training.curation.stages import Stage
from training.curation.store import Store
from training.dataset.catalogue import open_catalogue
from training.dataset.layout import TrainingSample, decode_sample

ANY_SIZE = ("thresholds.min_side=0", "thresholds.min_mask_share=0")
NUM_KILLS = 12


def build_of(source: Path, out: Path, *changes: str) -> Build:
    settings = with_settings(CurationSettings(), [*ANY_SIZE, *changes])
    return Build(pictures=source, out=out, settings=settings)


def samples_in(folder: Path, index: Path) -> dict[str, TrainingSample]:
    """All samples as training reads them."""
    catalogue = open_catalogue(folder, index)
    assert catalogue.damaged == []
    found = {}
    for shard, count in enumerate(catalogue.counts):
        for row in range(count):
            key, members = catalogue.read(shard, row)
            assert key not in found, "twice"
            found[key] = decode_sample(key, members)
    return found


def hashes(folder: Path) -> dict[str, str]:
    """Of every shard of both sides."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.tar"))
    }


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "photos", count=12)


def test_the_shards_hold_what_came_in(photos: Path, tmp_path: Path) -> None:
    report = build_of(photos, tmp_path / "set", "samples_per_shard=5").run()
    assert report["pictures"]["kept"] == 12 and report["pictures"]["read"] == 12
    assert [each["samples"] for each in report["sides"]["train"]["shards"]] == [4, 4, 4]
    samples = samples_in(tmp_path / "set" / "train", tmp_path / "index")
    lines = [json.loads(line) for line in photos.read_text().splitlines()]
    assert sorted(s.caption for s in samples.values()) == sorted(e["caption"] for e in lines)
    for record in read_source(photos):
        assert isinstance(record, Record) and record.entities is not None
        sample = samples[record.key]
        np.testing.assert_array_equal(
            sample.pixels, np.asarray(Image.open(record.picture.path).convert("RGB"))
        )
        for entity, given in zip(sample.entities, record.entities, strict=True):
            expected = np.asarray(Image.open(given.mask_source).convert("L")) >= 128
            np.testing.assert_array_equal(entity.mask, expected)
            assert (entity.label, entity.identity) == (given.label, given.identity)
    for note in (tmp_path / "set" / "train").glob("*.made.json"):
        made = json.loads(note.read_text())
        shard = note.with_name(note.name.replace(".made.json", ".tar"))
        assert made["sha256"] == hashlib.sha256(shard.read_bytes()).hexdigest()


def test_nothing_is_made_twice(photos: Path, tmp_path: Path) -> None:
    build = build_of(photos, tmp_path / "set", "samples_per_shard=4")
    build.run()
    before = [(p, p.stat().st_mtime_ns) for p in sorted((tmp_path / "set").rglob("*.tar"))]
    assert build.run()["made"] == {}
    after = [(p, p.stat().st_mtime_ns) for p in sorted((tmp_path / "set").rglob("*.tar"))]
    assert before == after


def changed_shards(before: dict[str, str], after: dict[str, str]) -> int:
    assert before.keys() == after.keys()
    return sum(before[name] != after[name] for name in before)


def test_a_changed_picture_mask_or_caption_makes_what_depends_on_it(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "set"
    build = build_of(photos, out, "samples_per_shard=3")
    build.run()
    before = hashes(out)
    picture = photos.parent / "003.jpg"
    Image.open(picture).rotate(1).save(picture, quality=95)
    assert build.run()["made"] == {"check": 1}, "size, boxes and masks are as before"
    assert changed_shards(before, after := hashes(out)) == 1
    mask = np.asarray(Image.open(photos.parent / "004_0.png")).copy()
    mask[:64] = 0
    Image.fromarray(mask).save(photos.parent / "004_0.png")
    assert build.run()["made"] == {"check": 1, "filters": 1, "mask filter": 1}
    assert changed_shards(after, last := hashes(out)) == 1
    photos.write_text(photos.read_text().replace("plain background", "plain ground", 1))
    assert build.run()["made"] == {}, "no stage reads a given caption"
    assert changed_shards(last, hashes(out)) == 1
    os.utime(picture, ns=(1, 1))
    assert build.run()["made"] == {"check": 1}, "looked at, found as it was"


def test_a_changed_threshold_runs_its_filter_alone(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    build_of(photos, out).run()
    report = build_of(photos, out, "thresholds.min_mask_share=0.6").run()
    assert report["made"] == {"mask filter": 12}
    dropped = report["rules"]["mask_share"]["pictures"]
    assert 0 < dropped < 12 and len(samples_in(out / "train", tmp_path / "index")) == 12 - dropped
    examples = report["rules"]["mask_share"]["examples"]
    assert 0 < len(examples) <= 6 and all(each["value"] < 0.6 for each in examples)


def test_a_removed_picture_leaves_the_shards(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    build_of(photos, out, "samples_per_shard=4").run()
    lines = photos.read_text().splitlines()
    photos.write_text("\n".join(lines[:4]) + "\n")
    report = build_of(photos, out, "samples_per_shard=4").run()
    assert report["pictures"]["read"] == 4
    assert [path.name for path in sorted((out / "train").glob("*.tar"))] == ["00000.tar"]
    assert len(samples_in(out / "train", tmp_path / "index")) == 4


def test_a_source_without_pictures_removes_nothing(photos: Path, tmp_path: Path) -> None:
    out, empty = tmp_path / "set", tmp_path / "empty"
    empty.mkdir()
    build_of(photos, out).run()
    with pytest.raises(ValueError, match=r"^--pictures: expected pictures, got none in .*empty"):
        build_of(empty, out).run()
    assert len(samples_in(out / "train", tmp_path / "index")) == 12


def test_faults_are_listed_and_retried(photos: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "set", photos.parent / "002.jpg"
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    report = build_of(photos, out).run()
    assert report["reasons"]["damaged"]["pictures"] == 1 and report["pictures"]["kept"] == 11
    (fault,) = map(json.loads, (out / "work" / "faults.jsonl").read_text().splitlines())
    assert fault["picture"]["path"] == str(picture) and fault["reason"] == "damaged"
    assert retry(last_build(out))["made"] == {"check": 1}, "tried again, still broken"
    picture.write_bytes(whole)
    assert retry(last_build(out))["pictures"]["kept"] == 12


def test_pictures_with_the_same_bytes_are_taken_once(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos.parent / "001.jpg", photos.parent / "copy.jpg")
    line = photos.read_text().splitlines()[1].replace("001.jpg", "copy.jpg")
    photos.write_text(photos.read_text() + line + "\n" + line + "\n")
    report = build_of(photos, tmp_path / "set").run()
    assert report["pictures"]["duplicates"] == 1
    assert report["reasons"]["listed twice"]["pictures"] == 1
    assert len(samples_in(tmp_path / "set" / "train", tmp_path / "index")) == 12


def test_likenesses_stand_on_one_side(tmp_path: Path) -> None:
    """Brighter copies, of which a third would be held out by chance."""
    folder = tmp_path / "photos"
    listed = write_pictures(folder, count=20)
    lines = []
    for line in map(json.loads, listed.read_text().splitlines()):
        for each in line["subjects"]:
            del each["identity"]
        brighter = Image.open(folder / line["picture"]).point(lambda value: min(255, value + 6))
        brighter.save(folder / f"bright_{line['picture']}", quality=90)
        lines += [line, {**line, "picture": f"bright_{line['picture']}"}]
    listed.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = build_of(listed, tmp_path / "set", "held_out=0.3").run()
    assert report["pictures"]["near"] >= 20
    sides = {}
    for side in ("train", "held-out"):
        for sample in samples_in(tmp_path / "set" / side, tmp_path / f"index-{side}"):
            name = sample.split("-")[0].removeprefix("bright_")
            assert sides.setdefault(name, side) == side
    assert len(set(sides.values())) == 2


def test_held_out_things_are_never_trained_on(tmp_path: Path) -> None:
    listed = write_pictures(tmp_path / "photos", count=24)
    report = build_of(listed, tmp_path / "set", "held_out=0.3").run()
    assert report["sides"]["held-out"]["samples"] > 0
    shown: dict[str, set[str]] = {}
    for side in ("train", "held-out"):
        samples = samples_in(tmp_path / "set" / side, tmp_path / f"index-{side}").values()
        shown[side] = {entity.identity for sample in samples for entity in sample.entities}
    assert shown["held-out"] - shown["train"], "some are held out"
    drawn = with_drawn(shown["train"] | shown["held-out"], 0.3)
    assert drawn and not drawn & shown["train"]


def with_drawn(names: set[str], share: float) -> set[str]:
    from training.curation.sides import is_drawn

    return {name for name in names if is_drawn(name, share)}


def test_one_build_at_a_time(photos: Path, tmp_path: Path) -> None:
    with locked(tmp_path / "set"), pytest.raises(ValueError, match="no other build writes"):
        build_of(photos, tmp_path / "set").run()


@pytest.fixture(scope="module")
def runner() -> Iterator[WarmRunner]:
    warm = WarmRunner()
    yield warm
    warm.close()


def test_kills_leave_no_trace(runner: WarmRunner, tmp_path: Path) -> None:
    """kill -9 at any moment, then the same command: the shards of the uninterrupted build."""
    listed = write_pictures(tmp_path / "photos", count=150)
    arguments = ["data", "build", "--pictures", str(listed), "--set", "samples_per_shard=7"]
    arguments += [part for change in ANY_SIZE for part in ("--set", change)]
    begun = time.monotonic()
    assert runner.run([*arguments, "--out", str(tmp_path / "whole")], tmp_path / "log") == 0
    whole = time.monotonic() - begun
    draw = random.Random(0)
    cut = [*arguments, "--out", str(tmp_path / "cut")]
    killed = 0
    for _ in range(NUM_KILLS):
        process = runner.start(cut, tmp_path / "log")
        time.sleep(draw.uniform(0, whole))
        os.kill(process, signal.SIGKILL)
        killed += runner.wait(process) == -signal.SIGKILL
    assert killed > 0
    assert runner.run(cut, tmp_path / "log") == 0, (tmp_path / "log").read_text()[-2000:]
    assert hashes(tmp_path / "cut") == hashes(tmp_path / "whole")
    assert len(samples_in(tmp_path / "cut" / "train", tmp_path / "index")) == 150
    reports: list[dict[str, Any]] = [
        json.loads((tmp_path / name / "work" / "report.json").read_text())
        for name in ("whole", "cut")
    ]
    assert reports[0].pop("made") and reports[1].pop("made") is not None
    assert reports[0] == reports[1]


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerate")
def test_the_command_trains_on(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    arguments = ["--pictures", str(photos), "--out", str(out)]
    for change in ANY_SIZE:
        arguments += ["--set", change]
    main(["data", "build", *arguments])
    main(["data", "retry", "--out", str(out)])
    run = ["--data", str(out / "train"), "--out", str(tmp_path / "run"), "--set", "steps=2"]
    main(["train", "--recipe", "debug_cpu", *run])
    assert list((tmp_path / "run" / "checkpoints").glob("step-00000002*"))


def test_masks_of_any_kind_are_read(tmp_path: Path) -> None:
    """A folder with sidecars: a mask file, alpha, a box with run lengths to come."""
    folder = tmp_path / "photos"
    folder.mkdir()
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:50] = 255
    Image.fromarray(np.dstack([mask] * 3 + [mask])).save(folder / "cut.png")
    (folder / "cut.json").write_text(
        json.dumps({"caption": "a dog", "subjects": [{"label": "dog"}]})
    )
    Image.fromarray(np.dstack([mask] * 3)).save(folder / "plain.png")
    Image.fromarray(mask).save(folder / "plain_mask.png")
    subject = {"label": "dog", "mask": "plain_mask.png"}
    (folder / "plain.json").write_text(json.dumps({"subjects": [subject]}))
    (folder / "plain.txt").write_text("the dog\n")
    (folder / "notes.docx").write_text("?")
    report = build_of(folder, tmp_path / "set").run()
    assert report["pictures"]["kept"] == 2 and report["reasons"]["not a picture"]["pictures"] == 1
    samples = samples_in(tmp_path / "set" / "train", tmp_path / "index")
    for sample in samples.values():
        np.testing.assert_array_equal(sample.entities[0].mask, mask > 0)
        assert sample.entities[0].box_xyxy == (20 / 60, 10 / 40, 50 / 60, 30 / 40)
    assert sorted(sample.caption for sample in samples.values()) == ["a dog", "the dog"]


def fragile(records: Sequence[Record]) -> list[Record]:
    """A stage's work that cannot do one picture: it fails for every batch that holds it."""
    if any("picture of crab" in (record.caption or "") for record in records):
        raise RuntimeError("out of memory")
    return list(records)


def test_one_picture_that_a_stage_cannot_do_fails_alone(tmp_path: Path) -> None:
    stage = Stage(
        name="fragile", mark="1", reads=("caption",), writes=("caption",), batch_size=4,
        applies=lambda fields: True, load=lambda: fragile,
    )  # fmt: skip
    captions = ["a dog", "a picture of crab", "a cat", "an owl", "a futon"]
    source = PictureSource(path="a.png")
    found = [Record(key=str(i), picture=source, caption=c) for i, c in enumerate(captions)]
    with Store(tmp_path / "store.sqlite") as store:
        run_here(iter(found), [stage], store, lambda count: None)
        assert (store.count("kept"), store.count("failed")) == (4, 1)
        (failed,) = store.endings("failed")
        assert (failed.key, failed.stage) == ("1", "fragile")
        assert failed.detail == "RuntimeError: out of memory"
    with Store(tmp_path / "store.sqlite") as store:
        run_here(iter(found), [stage], store, lambda count: None)
        assert store.made_now() == {}, "not tried again by itself"
        assert store.forget_faults() == 1
