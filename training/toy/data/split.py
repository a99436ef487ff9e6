"""The one file that says which identities a model may be trained on.

`identities.json` lists every subject with its side. Each training stage calls `assert_split` on
what it loads, so a held-out picture cannot slip in.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from pathlib import Path

IDENTITIES_PATH = Path(__file__).with_name("identities.json")
SPLITS = ("train", "heldout")
HELDOUT_SCENES = frozenset({"courtyard", "workshop", "park", "quay"})
HELDOUT_ONE_IN = 10


class SplitError(ValueError):
    """A subject is unknown, on the wrong side, or the identities file breaks its own rule."""


def side_of(key: str) -> str:
    """Side of one split key: held out where sha256(key) % 10 == 0.

    >>> side_of("model:Scopia/bed1") in SPLITS
    True
    """
    digest = int(hashlib.sha256(key.encode()).hexdigest(), 16)
    return "heldout" if digest % HELDOUT_ONE_IN == 0 else "train"


def split_keys(label_of: dict[str, str]) -> dict[str, str]:
    """What is hashed for every identity.

    A model is hashed by its identity. Emoji are hashed by all code points of their label, so that
    every design of a label lies on one side.

    Args:
        label_of: identity -> label.

    Returns:
        identity -> key for `side_of`.
    """
    code_points = defaultdict(set)
    for identity, label in label_of.items():
        if identity.startswith("emoji:"):
            code_points[label].add(identity.split(":")[1])
    return {
        identity: "emoji:" + "+".join(sorted(code_points[label]))
        if identity.startswith("emoji:")
        else identity
        for identity, label in label_of.items()
    }


def split_identities(label_of: dict[str, str]) -> dict[str, str]:
    """identity -> "train" or "heldout" for all of `label_of` (identity -> label)."""
    return {identity: side_of(key) for identity, key in split_keys(label_of).items()}


@cache
def load_identities(path: Path = IDENTITIES_PATH) -> dict[str, dict[str, str]]:
    """identity -> its record (label, category, source, split), checked against the rule."""
    content = json.loads(path.read_text())
    records = {record["identity"]: record for record in content["identities"]}
    sides = split_identities({key: record["label"] for key, record in records.items()})
    for identity, record in records.items():
        if record["split"] != sides[identity]:
            raise SplitError(
                f"{path.name}: expected {identity} in {sides[identity]}, got {record['split']}. "
                "Rebuild the file; it must never be edited by hand."
            )
    seen = {record["label"] for record in records.values() if record["split"] == "train"}
    if sorted(seen) != content["seen_labels"]:
        raise SplitError(f"{path.name}: expected seen_labels of the train side, got other ones.")
    return records


def identities_sha256(path: Path = IDENTITIES_PATH) -> str:
    """Hash of the identities file, to be stored with every trained model."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_split(identities: Iterable[str], split: str, path: Path = IDENTITIES_PATH) -> str:
    """Checks that all `identities` are known and belong to `split`.

    Args:
        identities: keys such as "model:Scopia/bed1".
        split: "train" or "heldout".
        path: the identities file.

    Returns:
        sha256 of the identities file.
    """
    if split not in SPLITS:
        raise SplitError(f"split: expected one of {SPLITS}, got {split!r}.")
    records = load_identities(path)
    for identity in set(identities):
        if identity not in records:
            raise SplitError(f"identities: expected names of {path.name}, got {identity!r}.")
        if records[identity]["split"] != split:
            raise SplitError(
                f"identities: expected only {split} subjects, got {identity} "
                f"({records[identity]['split']}). Never mix the sides."
            )
    return identities_sha256(path)


def write_identities(records: list[dict[str, str]], path: Path = IDENTITIES_PATH) -> None:
    """Writes the identities file: one line per subject, sides by rule.

    Args:
        records: dicts with at least identity and label.
        path: file to write.
    """
    sides = split_identities({record["identity"]: record["label"] for record in records})
    rows = [record | {"split": sides[record["identity"]]} for record in records]
    seen = sorted({row["label"] for row in rows if row["split"] == "train"})
    rule = "heldout where sha256(key) % 10 == 0; key = identity, or all code points of the label"
    lines = ",\n".join(json.dumps(row) for row in rows)
    path.write_text(
        f'{{"rule": {json.dumps(rule)},\n"heldout_scenes": {json.dumps(sorted(HELDOUT_SCENES))},\n'
        f'"seen_labels": {json.dumps(seen)},\n"identities": [\n{lines}\n]}}\n'
    )
