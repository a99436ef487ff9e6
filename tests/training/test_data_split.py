"""The split: by rule, complete, and refused where a picture is on the wrong side."""

import json
from collections import defaultdict

import pytest

from training.toy.data.split import (
    IDENTITIES_PATH,
    SplitError,
    assert_split,
    identities_sha256,
    load_identities,
    side_of,
    split_identities,
    write_identities,
)


def identities_of(split):
    return [key for key, record in load_identities().items() if record["split"] == split]


def test_side_is_the_hash_modulo_ten():
    sides = [side_of(str(number)) for number in range(2000)]
    assert 150 < sides.count("heldout") < 250


def test_committed_identities_follow_the_rule():
    records = load_identities()
    assert sum(key.startswith("model:") for key in records) > 580
    heldout = len(identities_of("heldout")) / len(records)
    assert 0.07 < heldout < 0.16


def test_every_design_of_an_emoji_label_is_on_one_side():
    sides = defaultdict(set)
    for key, record in load_identities().items():
        if key.startswith("emoji:"):
            sides[record["label"]].add(record["split"])
    assert all(len(found) == 1 for found in sides.values())


def test_seen_labels_are_the_labels_of_the_train_side():
    seen = json.loads(IDENTITIES_PATH.read_text())["seen_labels"]
    expected = {load_identities()[key]["label"] for key in identities_of("train")}
    assert seen == sorted(expected)


def test_assert_split_returns_the_files_hash():
    assert assert_split(identities_of("train")[:50], "train") == identities_sha256()


def test_assert_split_refuses_the_other_side():
    mixed = identities_of("train")[:3] + identities_of("heldout")[:1]
    with pytest.raises(SplitError, match=r"expected only train subjects, got .* \(heldout\)"):
        assert_split(mixed, "train")


def test_assert_split_refuses_unknown_identities_and_sides():
    with pytest.raises(SplitError, match="got 'model:nobody/nothing'"):
        assert_split(["model:nobody/nothing"], "train")
    with pytest.raises(SplitError, match="got 'val'"):
        assert_split([], "val")


def test_written_identities_load_again(tmp_path):
    path = tmp_path / "identities.json"
    records = [{"identity": f"model:x/{number}", "label": "chair"} for number in range(30)]
    write_identities(records, path)
    loaded = load_identities(path)
    expected = split_identities({record["identity"]: "chair" for record in records})
    assert {key: record["split"] for key, record in loaded.items()} == expected


def test_an_edited_file_is_refused(tmp_path):
    path = tmp_path / "identities.json"
    records = [{"identity": f"model:x/{number}", "label": "chair"} for number in range(30)]
    write_identities(records, path)
    assert '"heldout"' in path.read_text()
    path.write_text(path.read_text().replace('"split": "heldout"', '"split": "train"'))
    with pytest.raises(SplitError, match=r"expected model:x/.* in heldout, got train"):
        load_identities(path)


def test_labels_of_one_emoji_share_their_key():
    designs = {"emoji:1f34e:fluent": "apple", "emoji:1f34f:noto": "apple"}
    assert len(set(split_identities(designs).values())) == 1
