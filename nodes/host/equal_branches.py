"""Whether two guidance branches say the same at a step, so that one prediction serves both."""

from __future__ import annotations

import torch

from .batch_rows import RowsCond
from .comfy_types import Entry
from .plain_guidance import Entries
from .run_attachment import BranchCond


def say_the_same(first: Entries, second: Entries, timestep: torch.Tensor) -> bool:
    """Of two branches of a run, as outside of an adapter's start and end.

    Args:
        timestep: (B,) sigmas, as guiders get them.
    """
    entries = [_in_force(branch, timestep) for branch in (first, second)]
    return len(entries[0]) == len(entries[1]) and all(map(_is_same_entry, *entries))


def _in_force(entries: Entries, timestep: torch.Tensor) -> Entries:
    """By ComfyUI's rule for the ranges of entries."""
    if not any(name in entry for entry in entries for name in ("timestep_start", "timestep_end")):
        return entries
    sigma = timestep[0]
    return [
        entry
        for entry in entries
        if not (
            ("timestep_start" in entry and sigma > entry["timestep_start"])
            or ("timestep_end" in entry and sigma < entry["timestep_end"])
        )
    ]


def _is_same_entry(first: Entry, second: Entry) -> bool:
    """The text is one object where one Encode made both: the cheap question comes first."""
    return first.get("cross_attn") is second.get("cross_attn") and _is_same(
        *({k: value for k, value in entry.items() if k not in _OWN} for entry in (first, second))
    )


# What differs between entries that say the same: their number and their ranges.
_OWN = ("uuid", "timestep_start", "timestep_end")


def _is_same(first: object, second: object) -> bool:
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(
            _is_same(value, second[name]) for name, value in first.items()
        )
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.shape == second.shape and torch.equal(first, second)
    if isinstance(first, BranchCond) and isinstance(second, BranchCond):
        return first.value is second.value or not (first.value.acts or second.value.acts)
    if isinstance(first, (int, float, str, tuple, RowsCond)):
        return first == second
    # ComfyUI's own conds hold one thing each
    return hasattr(first, "cond") and _is_same(first.cond, getattr(second, "cond", None))
