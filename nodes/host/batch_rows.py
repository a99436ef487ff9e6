# Shapes: B samples of a UNet call.
"""Which sample of a UNet call belongs to which branch, where others cut up or repeat the batch.

A tensor with a row for every sample rides beside the branches. Whoever splits a call, sample by
sample, splits all of its tensors alike, and this one with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch

from .sampling_run import BranchCall


def rows_key(key: str) -> str:
    """Of the rows beside the conds of `key`."""
    return f"{key}_rows"


@dataclass(frozen=True, kw_only=True)
class RowsCond:
    """A `model_conds` entry, with the interface of `comfy.conds.CONDRegular`."""

    batch_size: int = 1

    def process_cond(self, batch_size: int, **_kwargs: object) -> RowsCond:
        return RowsCond(batch_size=batch_size)

    def can_concat(self, other: object) -> bool:
        return isinstance(other, RowsCond)

    def concat(self, others: Sequence[RowsCond]) -> torch.Tensor:
        """(B, 1) long, the number of the branch in the call."""
        sizes = torch.tensor([cond.batch_size for cond in (self, *others)])
        return torch.arange(len(sizes)).repeat_interleave(sizes)[:, None]

    def size(self) -> list[int]:
        return [self.batch_size, 1]


def follow_batch(call: BranchCall, rows: torch.Tensor | None, num_samples: int) -> BranchCall:
    """The call for the samples that are left of it, or repeated.

    Args:
        rows: (B, 1) long, as `RowsCond` made it and others cut it.
    """
    if call.num_samples == num_samples:
        return call
    if rows is None or rows.shape[0] != num_samples:
        raise ValueError(
            f"batch: expected {call.num_samples} samples for the subjects of this call, got "
            f"{num_samples}. Turn off other nodes that change the batch inside the UNet call."
        )
    parts = [
        replace(call.parts[index], batch_size=len(list(same)))
        for index, same in groupby(rows.flatten().tolist())
    ]
    return replace(call, parts=tuple(parts))
