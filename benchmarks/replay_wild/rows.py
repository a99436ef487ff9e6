"""A row: something that once went wrong, what became of it, and the tests that show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["fixed", "sentence"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of fault.

    Attributes:
        name: a letter for the section, and a number.
        what: the trigger.
        outcome: what the tests show: it works, or one clear sentence says that it does not.
        tests: `file::function`, with `[words]` for those of its cases whose name contains them, or
            a whole file. Empty: nothing was done yet.
    """

    name: str
    what: str
    outcome: Outcome = "fixed"
    tests: tuple[str, ...] = ()
