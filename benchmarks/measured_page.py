"""A page of docs with a generated table: measured rows take the place of the old ones."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.runs import atomic_path


def measured_rows(folder: Path, order: Sequence[str]) -> list[dict[str, Any]]:
    """The rows that ``folder`` keeps, ``NAME.json`` or ``NAME-SETTINGS.json``, by ``order``, and
    those of a name by the numbers in their settings."""
    paths = [path for path in folder.glob("*.json") if name_of(path) in order]
    paths.sort(key=lambda path: (order.index(name_of(path)), by_numbers(path.stem)))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def by_numbers(text: str) -> list[tuple[int, str]]:
    """What sorts texts by the numbers in them.

    >>> sorted(["a-t166", "a-t83", "a"], key=by_numbers)
    ['a', 'a-t83', 'a-t166']
    """
    parts = re.split(r"(\d+)", text)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]


def name_of(path: Path) -> str:
    """A row's name, without its settings."""
    return path.stem.split("-")[0]


def write_page(path: Path | None, lines: Sequence[str], number: int = 0) -> None:
    """Print ``lines``, and write them into the page ``path``, if one is given, in the place of its
    table ``number``, from 0."""
    print("\n".join(lines))
    if path is not None:
        page = with_table(path.read_text(encoding="utf-8"), lines, number)
        with atomic_path(path) as temporary:
            temporary.write_text(page, encoding="utf-8")


def with_table(page: str, lines: Sequence[str], number: int = 0) -> str:
    """A page with ``lines`` in the place of its table ``number``."""
    old = page.split("\n")
    is_row = [line.startswith("|") for line in ["", *old]]
    begins = [at for at in range(len(old)) if is_row[at + 1] and not is_row[at]]
    if len(begins) <= number:
        raise ValueError(
            f"--write: expected a page with at least {number + 1} tables, got {len(begins)}. "
            "Add |---|."
        )
    first = last = begins[number]
    while last < len(old) and old[last].startswith("|"):
        last += 1
    return "\n".join([*old[:first], *lines, *old[last:]])
