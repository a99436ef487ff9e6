"""Runs the tests of all rows and prints fixed, sentence or open for each.

`python -m benchmarks.replay_wild [A] [B9] ...` (COMFYUI_PATH names the ComfyUI): sections or single
rows; all of them by default. Another section is a table of `Row`s in `SECTIONS`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .hosts_and_packs import BESIDE_OTHERS, HOSTS
from .pictures_and_files import FILES, PICTURES
from .rows import Row
from .running import run_tests, state_of
from .training import TRAINING

SECTIONS: tuple[tuple[Row, ...], ...] = (HOSTS, BESIDE_OTHERS, PICTURES, FILES, TRAINING)


def chosen_rows(names: Sequence[str]) -> list[Row]:
    rows = [row for section in SECTIONS for row in section]
    known = {row.name for row in rows} | {row.name[0] for row in rows}
    for name in names:
        if name not in known:
            raise SystemExit(f"replay_wild: expected one of {' '.join(sorted(known))}, got {name}.")
    return [row for row in rows if not names or row.name in names or row.name[0] in names]


def main(names: Sequence[str]) -> int:
    """The exit status: 1 where a row is open."""
    rows = chosen_rows(names)
    found = run_tests(rows)
    states = [state_of(row, found) for row in rows]
    for row, state in zip(rows, states, strict=True):
        print(f"{row.name:4} {state:20} {row.what}")
    counts = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    print(counts)
    return 1 if "open" in states else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
