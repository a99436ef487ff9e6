"""In which order samples come: a function of seed and position alone, so a run can go on anywhere.

An epoch takes the shards in a random order, in groups; the samples of a group are mixed. Or steps
of few subjects and few slots stand beside crowded ones with all, which is cheaper than all slots
always: most steps take pictures of at most ``few_slots`` subjects; of a crowded step's pictures the
first half has more, the others are any.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..recipes.configuration import TrainingRecipe


class SampleOrder:
    """Maps a position 0, 1, 2, ... to (shard, row), epoch after epoch.

    Args:
        counts: samples of each shard.
        group: number of shards that are mixed.

    >>> order = SampleOrder([2, 3], group=2, seed=0)
    >>> sorted(order[i] for i in range(5))
    [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    """

    def __init__(self, counts: list[int], group: int, seed: int) -> None:
        self.counts = np.asarray(counts)
        self.group = group
        self.seed = seed
        self.total = int(self.counts.sum())
        self._epoch = lru_cache(maxsize=2)(self._shuffle_shards)
        self._mixed = lru_cache(maxsize=4)(self._shuffle_group)

    def __getitem__(self, position: int) -> tuple[int, int]:
        epoch, place = divmod(position, self.total)
        _, starts = self._epoch(epoch)
        number = int(np.searchsorted(starts, place, side="right")) - 1
        shard, row = self._mixed(epoch, number)[place - int(starts[number])]
        return int(shard), int(row)

    def any_sample(self, rng: np.random.Generator) -> tuple[int, int]:
        """A sample drawn at random, to stand in for one that cannot be used."""
        place = int(rng.integers(self.total))
        ends = np.cumsum(self.counts)
        shard = int(np.searchsorted(ends, place, side="right"))
        return shard, place - int(ends[shard] - self.counts[shard])

    def _shuffle_shards(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The groups of shards of an epoch, and the position at which each begins."""
        shards = np.random.default_rng((self.seed, 1, epoch)).permutation(len(self.counts))
        groups = [shards[i : i + self.group] for i in range(0, len(shards), self.group)]
        sizes = [int(self.counts[group].sum()) for group in groups]
        return groups, np.concatenate([[0], np.cumsum(sizes)[:-1]])

    def _shuffle_group(self, epoch: int, number: int) -> np.ndarray:
        """(samples, 2): shard and row of the group's samples, mixed."""
        shards = self._epoch(epoch)[0][number]
        rows = [np.stack([np.full(n, s), np.arange(n)], 1) for s in shards if (n := self.counts[s])]
        mixed = np.random.default_rng((self.seed, 2, epoch, number))
        return mixed.permutation(np.concatenate(rows)) if rows else np.zeros((0, 2), int)

    def __getstate__(self) -> dict[str, object]:
        """Caches do not travel to worker processes."""
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._shuffle_shards)
        self._mixed = lru_cache(maxsize=4)(self._shuffle_group)


class CrowdedSteps:
    """Which pictures a step takes, and with how many slots.

    Args:
        num_entities: subjects of every sample, by shard.

    >>> from training.recipes import recipe_named, with_settings
    >>> recipe = with_settings(recipe_named("debug_cpu"), ["few_slots=1", "crowded_share=0"])
    >>> steps = CrowdedSteps([[1, 2], [2]], recipe)
    >>> steps.slots(0), steps.sample(0, np.random.default_rng(0))
    (1, (0, 0))
    """

    def __init__(self, num_entities: list[list[int]], recipe: TrainingRecipe) -> None:
        self.recipe = recipe
        rows = [(shard, row) for shard, of in enumerate(num_entities) for row in range(len(of))]
        counts = np.array([count for of in num_entities for count in of])
        self.places = np.array(rows)
        self.few = np.flatnonzero((counts > 0) & (counts <= recipe.few_slots))
        self.crowded = np.flatnonzero(counts > recipe.few_slots)
        if len(self.few) == 0 and recipe.few_slots:
            raise ValueError(
                f"few_slots: expected pictures of at most {recipe.few_slots} subjects, got none in "
                "--data. Set it to 0."
            )

    def is_crowded(self, step: int) -> bool:
        """Whether a step has all slots."""
        drawn = np.random.default_rng((self.recipe.seed, 7, step)).random()
        return len(self.crowded) > 0 and bool(drawn < self.recipe.crowded_share)

    def slots(self, step: int) -> int:
        """Slots of all samples of a step."""
        return self.recipe.num_subjects if self.is_crowded(step) else self.recipe.few_slots

    def sample(self, position: int, rng: np.random.Generator) -> tuple[int, int]:
        """Shard and row for a position in the run."""
        step, place = divmod(position, self.recipe.global_batch_size)
        if not self.is_crowded(step):
            chosen = self.few[rng.integers(len(self.few))]
        elif place < self.recipe.global_batch_size // 2:
            chosen = self.crowded[rng.integers(len(self.crowded))]
        else:
            chosen = rng.integers(len(self.places))
        shard, row = self.places[chosen]
        return int(shard), int(row)
