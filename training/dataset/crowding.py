"""Steps of few subjects and few slots, beside crowded ones with all: cheaper than all slots always.

Most steps take pictures of at most ``few_slots`` subjects; of a crowded step's pictures the first
half has more, the others are any. Everything is a function of (seed, position).
"""

from __future__ import annotations

import numpy as np

from ..recipes.configuration import TrainingRecipe


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
