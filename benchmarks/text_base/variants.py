"""The variants under test, each one line of settings."""

from __future__ import annotations

from dataclasses import dataclass

from training.recipes import TrainingRecipe, recipe_named, with_settings

from .compositions import RECIPE

CHECKPOINT_EVERY, WARMUP_STEPS = 50, 30


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A training under a budget.

    Attributes:
        name: of the command. title: in the table.
        recipe: the recipe it changes. settings: what it changes there, as ``--set`` takes it.
        mix: of the training pictures. from_nothing: does not go on from the stored base.
        noise_share: standard deviation of an offset of the noise, the same at all places.
        early: shift of the timesteps towards noise: t/T -> s t / (1 + (s - 1) t), s = ``early``.
        lesson_steps, lesson_rate: of the words' lesson before (words.py), which counts too.
    """

    name: str
    title: str
    recipe: str = "text_to_image_tiny"
    settings: tuple[str, ...] = ()
    mix: str = RECIPE
    from_nothing: bool = False
    noise_share: float = 0.0
    early: float = 1.0
    lesson_steps: int = 0
    lesson_rate: float = 1e-3

    def training(self, steps: int) -> TrainingRecipe:
        """The recipe for so many steps."""
        warmup = min(WARMUP_STEPS, steps)
        own = [f"steps={steps}", f"warmup_steps={warmup}", "precision=bfloat16", "log_every=10"]
        kept = f"checkpoint_every={CHECKPOINT_EVERY}"
        return with_settings(recipe_named(self.recipe), [*own, kept, *self.settings])


SHIPPED = "shipped"
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(name="text", title="text to image", settings=("learning_rate=5e-4",)),
        Variant(
            name="joint30",
            title="joint, base_only .3",
            recipe="tiny_joint",
            settings=("base_only=0.3", "learning_rate=5e-4"),
        ),
        Variant(
            name="few",
            title="text to image, fewer subjects and scenes alone",
            mix="few",
            settings=("learning_rate=5e-4",),
        ),
        Variant(
            name="few_early",
            title="fewer subjects, timesteps shifted towards noise (3)",
            mix="few",
            settings=("learning_rate=5e-4",),
            early=3.0,
        ),
        Variant(
            name="few_offset",
            title="fewer subjects, noise with an offset (.1)",
            mix="few",
            settings=("learning_rate=5e-4",),
            noise_share=0.1,
        ),
        Variant(
            name="few_words",
            title="fewer subjects, after a lesson for the text encoder",
            mix="few",
            settings=("learning_rate=5e-4",),
            lesson_steps=300,
        ),
    )
}
