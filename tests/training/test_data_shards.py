"""Shards: written once, read back equal; bad samples are skipped and counted by reason."""

import io
import json
import tarfile
from collections import Counter

import numpy as np
import pytest

from training.dataset.shard_file import encode_picture, write_shard
from training.toy.data.library import load_library, make_sample
from training.toy.data.shards import composite_members, read_shards
from training.toy.data.split import SplitError, load_identities


def write_work_folder(folder, split="train", claimed=None):
    """A work folder with five synthetic subjects of one side and two scenes."""
    subjects = [(key, record) for key, record in load_identities().items()]
    chosen = {}
    for key, record in subjects:
        if record["split"] == split and record["label"] not in chosen and len(chosen) < 4:
            chosen[record["label"]] = key
    emoji = next(
        (key, record)
        for key, record in subjects
        if key.startswith("emoji:") and record["split"] == split and record["label"] not in chosen
    )
    chosen[emoji[1]["label"]] = emoji[0]
    rng = np.random.default_rng(0)
    cutouts = rng.integers(0, 256, (len(chosen), 128, 128, 4), dtype=np.uint8)
    cutouts[..., 3] = 255
    records = [
        {"identity": key, "label": label, "width": 128, "height": 128, "split": claimed or split}
        for label, key in chosen.items()
    ]
    scenes = [
        {"scene": "forest", "caption": "in a forest", "split": "train"},
        {"scene": "park", "caption": "in a park", "split": "heldout"},
    ]
    np.save(folder / "cutouts.npy", cutouts)
    np.save(folder / "backgrounds.npy", rng.integers(0, 256, (2, 128, 128, 3), dtype=np.uint8))
    (folder / "cutouts.json").write_text(json.dumps(records))
    (folder / "backgrounds.json").write_text(json.dumps(scenes))
    return folder


@pytest.fixture
def library(tmp_path):
    return load_library(write_work_folder(tmp_path), "train", "train")


def write_tar(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def good_members(key):
    """Members of a one-subject sample, to be spoiled by tests."""
    entity = {"label": "cup", "box": [0.0, 0.0, 0.5, 0.5], "mask": "mask0.png"}
    return {
        f"{key}.png": encode_picture(np.zeros((8, 8, 3), np.uint8), "PNG"),
        f"{key}.json": json.dumps({"caption": "a cup", "entities": [entity]}).encode(),
        f"{key}.mask0.png": encode_picture(np.eye(8, dtype=bool), "PNG"),
    }


def with_entity(key, **changes):
    members = good_members(key)
    metadata = json.loads(members[f"{key}.json"])
    metadata["entities"][0] |= changes
    return members | {f"{key}.json": json.dumps(metadata).encode()}


def without(key, member):
    return {name: value for name, value in good_members(key).items() if name != f"{key}.{member}"}


def test_written_samples_read_back_equal(library, tmp_path):
    write_shard(tmp_path / "a.tar", composite_members(library, 0, 3, seed=7))
    samples = list(read_shards(tmp_path / "a.tar"))
    assert [sample.key for sample in samples] == ["0000000", "0000001", "0000002"]
    for index, sample in enumerate(samples):
        composite, metadata = make_sample(library, 7_000_000 + index)
        assert np.array_equal(sample.image, composite.image)
        assert sample.caption == composite.caption == metadata["caption"]
        assert len(sample.entities) == len(composite.masks)
        for entity, mask, box in zip(
            sample.entities, composite.masks, composite.boxes_xyxy, strict=True
        ):
            assert np.array_equal(entity.mask, mask)
            assert entity.box_xyxy == pytest.approx(tuple(box), abs=1e-5)
            assert library.records[entity.cutout]["identity"] == entity.identity


def test_shards_are_the_same_bytes_every_time(library, tmp_path):
    for name in ("a.tar", "b.tar"):
        write_shard(tmp_path / name, composite_members(library, 4, 2, seed=1))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert not list(tmp_path.glob("*.partial"))


def test_subjects_of_a_sample_have_different_labels(library):
    counts = Counter()
    for seed in range(60):
        labels = [entity["label"] for entity in make_sample(library, seed)[1]["entities"]]
        assert len(set(labels)) == len(labels)
        counts[len(labels)] += 1
    assert set(counts) == {1, 2, 3, 4}
    assert counts[1] > counts[3]


def test_only_scenes_of_the_side_are_drawn(library):
    scenes = {make_sample(library, seed)[1]["scene"] for seed in range(60)}
    assert scenes == {"forest", "plain"}


def test_heldout_subjects_never_enter_a_train_library(tmp_path):
    write_work_folder(tmp_path, split="heldout", claimed="train")
    with pytest.raises(SplitError, match="expected only train subjects"):
        load_library(tmp_path, "train", "train")


@pytest.mark.parametrize(
    ("spoiled", "reason"),
    [
        (without("b", "mask0.png"), "mask missing"),
        (good_members("b") | {"b.png": b"no picture"}, "unreadable picture"),
        (good_members("b") | {"b.json": b"{"}, "metadata incomplete"),
        (good_members("b") | {"b.json": b'{"caption": "x", "entities": []}'}, "no subjects"),
        (with_entity("b", box=[0.5, 0, 0.4, 1]), "box outside the picture"),
        (with_entity("b", box=[0.5, 0]), "box is not four numbers"),
        (
            good_members("b") | {"b.mask0.png": encode_picture(np.eye(9, dtype=bool), "PNG")},
            "mask of another size",
        ),
    ],
)
def test_bad_samples_are_skipped_and_counted(tmp_path, spoiled, reason):
    path = write_tar(tmp_path / "a.tar", good_members("a") | spoiled | good_members("c"))
    bad = Counter()
    with pytest.warns(UserWarning, match=f"a.tar/b: {reason}; skipped"):
        keys = [sample.key for sample in read_shards(path, bad)]
    assert keys == ["a", "c"]
    assert bad == {reason: 1}


@pytest.mark.parametrize("member", ["png", "json"])
def test_samples_without_picture_or_metadata_are_named_as_damage(tmp_path, member):
    spoiled = without("b", member)
    path = write_tar(tmp_path / "a.tar", good_members("a") | spoiled | good_members("c"))
    bad = Counter()
    with pytest.warns(UserWarning, match="a.tar: 1 samples without picture or metadata"):
        assert [sample.key for sample in read_shards(path, bad)] == ["a", "c"]
    assert bad == {"broken shard": 1}


def test_a_broken_shard_does_not_stop_the_next(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"this is no archive" * 100)
    write_tar(tmp_path / "1.tar", good_members("a"))
    bad = Counter()
    with pytest.warns(UserWarning, match=r"0\.tar: not a whole \.tar file"):
        keys = [sample.key for sample in read_shards(tmp_path, bad)]
    assert keys == ["a"]
    assert bad == {"broken shard": 1}


def test_no_shards_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a folder of \.tar shards"):
        list(read_shards(tmp_path))
