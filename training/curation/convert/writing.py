"""Writing a list of records, and a list of what no record holds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ...runs import atomic_path
from ..record import Record
from .conversion import Skipped


@dataclass(kw_only=True)
class Converted:
    """What a conversion wrote.

    Attributes:
        records, entities, masks: how many.
        skipped: how many by reason. examples: the first place of each reason.
    """

    records: int = 0
    entities: int = 0
    masks: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """To read: the counts, and what was left out with a place of each."""
        total = f"{self.records} pictures, {self.entities} subjects, {self.masks} masks"
        left_out = [
            f"left out: {count} x {reason}, first {self.examples[reason]}"
            for reason, count in self.skipped.most_common()
        ]
        return [total, *left_out]


def skipped_list(out: Path) -> Path:
    """Where the list of what was left out stands, beside the list of records."""
    return out.with_suffix(".skipped.jsonl")


def write_records(converted: Iterable[Record | Skipped], out: Path) -> Converted:
    """Write one record a line into ``out``, whole or not at all, and what was left out beside it.

    Two records of one key end the conversion: shards could not tell them apart.
    """
    done = Converted()
    keys: set[str] = set()
    with atomic_path(out) as records, atomic_path(skipped_list(out)) as skipped:
        with records.open("w", encoding="utf-8") as lines, skipped.open("w", encoding="utf-8") as s:
            for each in converted:
                if isinstance(each, Skipped):
                    done.skipped[each.reason] += 1
                    done.examples.setdefault(each.reason, each.where)
                    s.write(json.dumps(asdict(each), ensure_ascii=False) + "\n")
                    continue
                if each.key in keys:
                    raise ValueError(
                        f"key: expected one picture of each name, got {each.key} twice "
                        f"({each.picture.path}). Rename one, or convert the two apart."
                    )
                keys.add(each.key)
                lines.write(each.to_json() + "\n")
                done.records += 1
                done.entities += len(each.entities or ())
                done.masks += sum(entity.mask is not None for entity in each.entities or ())
        if done.records == 0:
            raise ValueError(
                f"pictures: expected at least one, got none ({', '.join(done.lines()[1:])}). "
                "Correct what was left out."
            )
    return done
