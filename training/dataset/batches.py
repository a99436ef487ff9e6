"""Batches of a step, the same samples for any number of processes; readers that die are replaced.

# Shapes: B micro-batch.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ..recipes.configuration import TrainingRecipe
from .samples import Item, SubjectDataset

MAX_RESTARTS = 5


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """What one process takes at once.

    Attributes:
        tensors: stacked tensors of :meth:`SubjectDataset.tensors_of`.
        positions: of the samples in the run. names: of the samples. skipped: (name, reason).
    """

    tensors: dict[str, Tensor]
    positions: list[int]
    names: list[str]
    skipped: list[tuple[str, str]]

    def to(self, device: torch.device) -> dict[str, Tensor]:
        """The tensors on ``device``."""
        return {k: v.to(device, non_blocking=True) for k, v in self.tensors.items()}


def stack(items: list[Item]) -> MicroBatch:
    """Items to a micro-batch."""
    names = items[0].tensors
    return MicroBatch(
        tensors={name: torch.stack([item.tensors[name] for item in items]) for name in names},
        positions=[item.position for item in items],
        names=[item.name for item in items],
        skipped=[entry for item in items for entry in item.skipped],
    )


def step_positions(
    recipe: TrainingRecipe, step: int, process: int, num_processes: int
) -> list[list[int]]:
    """Positions of each micro-batch that one process takes in a step.

    >>> from training.recipes import recipe_named
    >>> step_positions(recipe_named("debug_cpu"), step=1, process=1, num_processes=2)
    [[6, 7]]
    """
    size, first = recipe.micro_batch_size, step * recipe.global_batch_size
    starts = [
        first + (number * num_processes + process) * size
        for number in range(recipe.accumulation(num_processes))
    ]
    return [list(range(start, start + size)) for start in starts]


class BatchStream:
    """The micro-batches of one step after another, from any step on."""

    def __init__(
        self, dataset: SubjectDataset, first_step: int, process: int, num_processes: int
    ) -> None:
        self.dataset, self.recipe = dataset, dataset.recipe
        self.step, self.process, self.num_processes = first_step, process, num_processes
        self.batches = self._open()

    def next_step(self) -> list[MicroBatch]:
        """The micro-batches of the next step; a dead reader is replaced and the step read again."""
        count = self.recipe.accumulation(self.num_processes)
        for restart in range(MAX_RESTARTS + 1):
            try:
                micro_batches = [next(self.batches) for _ in range(count)]
                break
            except RuntimeError as error:
                if "DataLoader worker" not in str(error):
                    raise
                if restart == MAX_RESTARTS:
                    raise RuntimeError(
                        f"num_workers: expected readers that stay alive, got {MAX_RESTARTS} that "
                        f"died in step {self.step + 1} ({error}). Use fewer with --set "
                        "num_workers=..., or 0."
                    ) from error
                warnings.warn(
                    f"step {self.step + 1}: a data reader died and is replaced.", stacklevel=2
                )
                self.batches = self._open()
        self.step += 1
        return micro_batches

    def _open(self) -> Iterator[MicroBatch]:
        """A loader that begins with the current step."""
        loader = DataLoader(
            self.dataset,
            batch_sampler=self._positions(self.step),
            num_workers=self.recipe.num_workers,
            collate_fn=stack,
            worker_init_fn=leave_signals_to_the_run,
            pin_memory=torch.cuda.is_available(),
        )
        return iter(loader)

    def _positions(self, step: int) -> Iterator[list[int]]:
        """Endless lists of positions, what DataLoader calls a batch sampler."""
        while True:
            yield from step_positions(self.recipe, step, self.process, self.num_processes)
            step += 1


def leave_signals_to_the_run(_worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; a reader goes on until the run has stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
