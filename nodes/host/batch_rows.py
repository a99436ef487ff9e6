# Shapes: B samples of a UNet call.
"""Which sample of a UNet call belongs to which branch, where others cut up or repeat the batch.

A tensor with a row for every sample rides beside the branches. Whoever splits a call, sample by
sample, splits all of its tensors alike, and this one with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch


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


def parts_of_batch(
    rows: torch.Tensor | None, expected: int, num_samples: int
) -> Iterator[tuple[int, int]]:
    """Number of each branch that is left of a call, or repeated, with how many samples it has.

    Args:
        rows: (B, 1) long, as `RowsCond` made it and others cut it.
        expected: number of samples before.
        num_samples: B, that of the call.
    """
    if rows is None or rows.shape[0] != num_samples:
        raise ValueError(
            f"batch: expected {expected} samples for the subjects of this call, got "
            f"{num_samples}. Turn off other nodes that change the batch inside the UNet call."
        )
    for index, same in groupby(rows.flatten().tolist()):
        yield index, len(list(same))
