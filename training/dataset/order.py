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


@lru_cache(maxsize=2)
def _shuffled_groups(
    counts: tuple[int, ...], group: int, seed: int, epoch: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """The groups of shards of an epoch, and the position at which each begins."""
    shards = np.random.default_rng((seed, 1, epoch)).permutation(len(counts))
    groups = [shards[i : i + group] for i in range(0, len(shards), group)]
    sizes = [sum(counts[shard] for shard in chosen) for chosen in groups]
    return groups, np.concatenate([[0], np.cumsum(sizes)[:-1]])


@lru_cache(maxsize=4)
def _mixed_rows(counts: tuple[int, ...], group: int, seed: int, epoch: int, n: int) -> np.ndarray:
    """(samples, 2): shard and row of the samples of an epoch's group ``n``, mixed."""
    shards = _shuffled_groups(counts, group, seed, epoch)[0][n]
    rows = [(shard, row) for shard in shards for row in range(counts[shard])]
    rng = np.random.default_rng((seed, 2, epoch, n))
    return rng.permutation(np.array(rows, int)) if rows else np.zeros((0, 2), int)


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
        self.settings = (tuple(counts), group, seed)
        self.ends = np.cumsum(counts)

    def __getitem__(self, position: int) -> tuple[int, int]:
        epoch, place = divmod(position, int(self.ends[-1]))
        _, starts = _shuffled_groups(*self.settings, epoch)
        number = int(np.searchsorted(starts, place, side="right")) - 1
        shard, row = _mixed_rows(*self.settings, epoch, number)[place - int(starts[number])]
        return int(shard), int(row)

    def any_sample(self, rng: np.random.Generator) -> tuple[int, int]:
        """A sample drawn at random, to stand in for one that cannot be used."""
        place = int(rng.integers(int(self.ends[-1])))
        shard = int(np.searchsorted(self.ends, place, side="right"))
        return shard, place - int(self.ends[shard] - self.settings[0][shard])


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
