"""The variants under test, each one line of settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from training.precision import fastest_precision
from training.recipes import TrainingRecipe, recipe_named, with_settings
from training.toy.text.settings import Canvas, WordsLesson

from .mixes import RECIPE

CHECKPOINT_EVERY, WARMUP_STEPS = 50, 30


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A training under a budget.

    Attributes:
        name: of the command. title: in the table.
        recipe: the recipe it changes. settings: what it changes there, as ``--set`` takes it.
        mix: of the training pictures.
        noise_share: standard deviation of an offset of the noise, the same at all places.
        pixel_power: channels' weights in the loss (objective.pixel_weights). min_snr: gamma of the
            timesteps' weights, 0 for none.
        feature_weight: of the loss in features (feature_loss.py).
        muon: matrices and kernels take steps of Muon (muon.py), all else AdamW's.
        windows: so many of every four steps see a window of half the side, around a point of the
            subject (windows.py), which costs a quarter.
        attention_above: attention in the first block on the way down, too.
        words, canvas: lessons before (training/toy/text), one after the other, which count, too.
        goes_on: the run of another variant, with the same lessons, whose weights it begins with:
            the folder's name.
        relearns: another canvas, learnt after that in the place of ``canvas``; of no steps where
            the run before has learnt it.
    """

    name: str
    title: str
    recipe: str = "text_to_image_tiny"
    settings: tuple[str, ...] = ()
    mix: str = RECIPE
    noise_share: float = 0.0
    pixel_power: float = 0.0
    min_snr: float = 0.0
    feature_weight: float = 0.0
    muon: bool = False
    windows: int = 0
    attention_above: bool = False
    words: WordsLesson | None = None
    canvas: Canvas | None = None
    goes_on: str = ""
    relearns: Canvas | None = None

    def training(self, steps: int) -> TrainingRecipe:
        """The recipe for so many steps."""
        warmup = min(WARMUP_STEPS, steps)
        precision = fastest_precision(torch.device("cpu"))
        own = [f"steps={steps}", f"warmup_steps={warmup}", f"precision={precision}", "log_every=10"]
        kept = f"checkpoint_every={CHECKPOINT_EVERY}"
        return with_settings(recipe_named(self.recipe), [*own, kept, *self.settings])


SHIPPED = "shipped"
FIRST_CANVAS = Canvas(
    cell=16,
    size=0.6,
    steps=420,
    spread=0.8,
    gain=1.0,
    place_weight=0.0,
    lesson_weight=0.0,
    typical=False,
)
LONGER_CANVAS = Canvas(typical=False)
RATE = ("learning_rate=5e-4",)
AFTER_LESSON = Variant(
    name="few_words",
    title="fewer subjects, after a lesson for the text encoder (a)",
    settings=RATE,
    mix="few",
    words=WordsLesson(),
)
TYPICAL_CANVAS = replace(LONGER_CANVAS, steps=500, rate=1e-3, typical=True)
TYPICAL = replace(
    AFTER_LESSON,
    name="typical",
    title="the same, gone on with on typical pictures, 12 views of a scene, 1 of a label",
    mix="typical",
    settings=("learning_rate=6e-4",),
    canvas=LONGER_CANVAS,
    goes_on="lessoned-534",
    relearns=TYPICAL_CANVAS,
)
TYPICAL_FROM_START = replace(LONGER_CANVAS, typical=True)
DIRECT = replace(
    TYPICAL,
    name="direct",
    title="(a), a canvas of typical cut-outs, then typical pictures, 3 views of a scene",
    mix="three_views",
    canvas=TYPICAL_FROM_START,
    goes_on="",
    relearns=None,
)


def few_pictures(variant: Variant, batch: int, rate: str, *more: str) -> Variant:
    """The variant with so many pictures a step, at that learning rate, and ``more`` settings."""
    size = (f"global_batch_size={batch}", f"micro_batch_size={batch}", "ema_every=8")
    title = f"{variant.title}, {batch} pictures a step at {rate}"
    return replace(variant, title=title, settings=(f"learning_rate={rate}", *size, *more))


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(name="text", title="text to image", settings=RATE),
        Variant(
            name="joint30",
            title="joint, base_only .3",
            recipe="tiny_joint",
            settings=("base_only=0.3", *RATE),
        ),
        Variant(
            name="few",
            title="text to image, fewer subjects and scenes alone",
            mix="few",
            settings=RATE,
        ),
        AFTER_LESSON,
        replace(AFTER_LESSON, name="centred", title="(a), subjects near the middle", mix="centred"),
        replace(
            AFTER_LESSON,
            name="early",
            title="(a), timesteps shifted towards noise (3)",
            settings=(*RATE, "timestep_shift=3"),
        ),
        replace(AFTER_LESSON, name="min_snr", title="(a), min-SNR weights (5)", min_snr=5.0),
        replace(
            AFTER_LESSON,
            name="pixels",
            title="(a), channels weighted towards what moves pixels (.5)",
            pixel_power=0.5,
        ),
        replace(
            AFTER_LESSON,
            name="offset",
            title="(a), noise with an offset (.1)",
            noise_share=0.1,
        ),
        replace(AFTER_LESSON, name="muon", title="(a), Muon for the matrices", muon=True),
        replace(
            AFTER_LESSON,
            name="windows",
            title="(a), three steps of four on windows of half the side",
            windows=3,
        ),
        replace(
            AFTER_LESSON,
            name="drawn",
            title="(a), then a canvas: a small picture of every label learnt by heart",
            mix="drawn",
            canvas=FIRST_CANVAS,
        ),
        replace(
            AFTER_LESSON,
            name="placed",
            title="the same, and heads that look at it keep their places",
            mix="drawn",
            canvas=replace(FIRST_CANVAS, place_weight=0.1),
        ),
        replace(
            AFTER_LESSON,
            name="kept",
            title="the same, text encoder frozen, a closer look (.45), timesteps towards noise (2)",
            mix="drawn",
            settings=("learning_rate=6e-4", "text_encoder=frozen", "timestep_shift=2"),
            canvas=replace(FIRST_CANVAS, spread=0.45, place_weight=0.1),
        ),
        replace(
            AFTER_LESSON,
            name="lessoned",
            title="a finer canvas, learnt longer and kept in the loss; timesteps towards noise (2)",
            mix="middle",
            settings=("learning_rate=6e-4", "timestep_shift=2"),
            canvas=LONGER_CANVAS,
        ),
        replace(
            AFTER_LESSON,
            name="longer",
            title="the same, gone on with, timesteps as they were",
            mix="middle",
            canvas=LONGER_CANVAS,
            goes_on="lessoned-534",
        ),
        TYPICAL,
        replace(
            TYPICAL,
            name="felt",
            title="the same, gone on with, with a loss in features",
            settings=("learning_rate=4e-4",),
            goes_on="typical-790",
            relearns=replace(TYPICAL_CANVAS, steps=0),
            feature_weight=0.02,
        ),
        replace(
            TYPICAL,
            name="three_views",
            title="the same, gone on with, 3 views of a scene, no loss in features",
            mix="three_views",
            goes_on="felt-1000",
            relearns=replace(TYPICAL_CANVAS, steps=0),
        ),
        DIRECT,
        *(
            few_pictures(replace(DIRECT, name=name), batch, rate)
            for name, batch, rate in (
                ("direct8_low", 8, "3e-4"),
                ("direct8", 8, "6e-4"),
                ("direct8_high", 8, "8e-4"),
                ("direct4", 4, "3e-4"),
            )
        ),
        few_pictures(
            replace(
                DIRECT,
                name="fine",
                title="that at 8e-4, gone on with, timesteps shifted towards pictures (.4)",
                goes_on="direct8_high-576",
            ),
            8,
            "6e-4",
            "timestep_shift=0.4",
        ),
        few_pictures(
            replace(DIRECT, name="finer", title="that, gone on with once more", goes_on="fine-837"),
            8,
            "6e-4",
            "timestep_shift=0.4",
            "seed=2",
        ),
        few_pictures(
            replace(
                DIRECT,
                name="unlooked8",
                title="as `direct8`, no heads that look at the canvas at first",
                canvas=replace(TYPICAL_FROM_START, spread=0.0, place_weight=0.0),
            ),
            8,
            "6e-4",
        ),
        *(
            few_pictures(
                replace(
                    AFTER_LESSON,
                    name=name,
                    title="(a) on those typical pictures, no canvas",
                    mix="three_views",
                ),
                8,
                rate,
            )
            for name, rate in (("plain8", "3e-4"), ("plain8_high", "8e-4"))
        ),
        replace(
            AFTER_LESSON,
            name="fast",
            title="(a), twice the learning rate",
            settings=("learning_rate=1e-3",),
        ),
        replace(
            AFTER_LESSON,
            name="halves",
            title="(a), 16 pictures a step",
            settings=(*RATE, "global_batch_size=16", "micro_batch_size=16"),
        ),
        replace(
            AFTER_LESSON,
            name="above",
            title="(a), attention in the first block, too",
            attention_above=True,
        ),
    )
}
