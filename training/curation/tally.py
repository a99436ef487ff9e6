"""What became of all pictures, counted: OUT/work/report.json, and OUT/work/faults.jsonl.

report.json, which `data stats` and `data inspect` read::

    {"version": 1, "settings": {...},
     "pictures": {"read": n, "kept": n, "dropped": n, "quarantined": n, "failed": n,
                  "duplicates": n, "near": n},
     "made": {STAGE: n},
     "rules": {RULE: {"pictures": n, "subjects": n, "examples": [EXAMPLE, ...]}},
     "reasons": {REASON: {"pictures": n, "examples": [EXAMPLE, ...]}},
     "adjustments": {TEXT: n},
     "sides": {"train": {"samples": n, "subjects": n, "shards": [{"name", "samples", "bytes",
               "sha256"}, ...]}, "held-out": ...}}

"made" counts the results that this run made, not those known from earlier ones. Rules are those of
filters.PICTURE_RULES and ENTITY_RULES, all of them, also with nothing. A rule's "pictures" are
those that it dropped, "subjects" those that broke it. "duplicates" are kept pictures whose bytes
are another's, which stands for them in the shards; "near" near-duplicates of an earlier picture,
which stand on its side. An EXAMPLE has key, picture (path, member), and, of a rule, value and
entity (as record.FoundEntity, or null); of a reason, detail. faults.jsonl has every quarantined or
failed picture: key, kind, stage, picture, reason, detail.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..runs import atomic_path, write_json
from .filters import ENTITY_RULES, PICTURE_RULES
from .settings import CurationSettings
from .shards import SIDES, Assignment, Note
from .store import KINDS, Ending, Store

VERSION = 1
EXAMPLES = 6  # kept of every rule and reason
REPORT, FAULTS = "report.json", "faults.jsonl"


def write_report(
    folder: Path,
    store: Store,
    settings: CurationSettings,
    assignment: Assignment,
    notes: dict[str, list[Note]],
) -> dict[str, Any]:
    """Write both files; the report."""
    counts = {kind: store.count(kind) for kind in KINDS}
    rules, adjustments, subjects = _rules_of(store)
    report = {
        "version": VERSION,
        "settings": asdict(settings),
        "pictures": {
            "read": sum(counts.values()),
            **counts,
            "duplicates": len(assignment.duplicates),
            "near": assignment.near,
        },
        "made": {stage: len(keys) for stage, keys in sorted(store.made_now().items())},
        "rules": rules,
        "reasons": _write_faults(folder / FAULTS, store),
        "adjustments": dict(adjustments),
        "sides": {
            side: {
                "samples": len(assignment.sides[side]),
                "subjects": sum(subjects[key] for key in assignment.sides[side]),
                "shards": [
                    {name: note[name] for name in ("name", "samples", "bytes", "sha256")}
                    for note in notes[side]
                ],
            }
            for side in SIDES
        },
    }
    write_json(folder / REPORT, report, indent=1)
    return report


def _rules_of(store: Store) -> tuple[dict[str, Any], Counter[str], dict[str, int]]:
    """Counts and examples by rule, adjustments of kept pictures, subjects by key of kept ones."""
    rules = {
        rule: {"pictures": 0, "subjects": 0, "examples": []}
        for rule in (*PICTURE_RULES, *ENTITY_RULES)
    }
    adjustments, subjects = Counter[str](), {}
    for kind in ("kept", "dropped"):
        for ending in store.endings(kind):
            _count_drops(rules, ending)
            if kind == "kept":
                adjustments.update(ending.fields["adjustments"])
                subjects[ending.key] = len(ending.fields["entities"])
    return rules, adjustments, subjects


def _count_drops(rules: dict[str, Any], ending: Ending) -> None:
    for rule in {drop["rule"] for drop in ending.drops} & set(PICTURE_RULES):
        rules[rule]["pictures"] += 1
    for drop in ending.drops:
        found = rules[drop["rule"]]
        found["subjects"] += drop["entity"] is not None
        if len(found["examples"]) < EXAMPLES:
            found["examples"].append(
                {
                    "key": ending.key,
                    "picture": ending.fields["picture"],
                    "value": drop["value"],
                    "entity": drop["entity"],
                }
            )


def _write_faults(path: Path, store: Store) -> dict[str, Any]:
    """Write the list; counts and examples by reason."""
    reasons: dict[str, Any] = {}
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as lines:
        for kind in ("quarantined", "failed"):
            for ending in store.endings(kind):
                line = {
                    "key": ending.key,
                    "kind": kind,
                    "stage": ending.stage,
                    "picture": ending.fields["picture"],
                    "reason": ending.reason,
                    "detail": ending.detail,
                }
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
                found = reasons.setdefault(ending.reason, {"pictures": 0, "examples": []})
                found["pictures"] += 1
                if len(found["examples"]) < EXAMPLES:
                    kept = ("key", "picture", "detail")
                    found["examples"].append({name: line[name] for name in kept})
    return reasons
